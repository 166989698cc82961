//! Device memory: order of exits, replay of reads, splits.

mod guest;

use cpu_defs::Gpr;
use cpu_engine::{Exit, MmioExit, Pending};
use cpu_mem::PageFlags;
use guest::{Guest, START, describe};
use iced_x86::code_asm::*;

/// A page without memory.
const DEVICE: u64 = 0x40_0000;

fn mmio(exit: Exit) -> MmioExit {
    match exit {
        Exit::Mmio(mmio) => mmio,
        other => panic!("no MMIO exit: {}", describe(&other)),
    }
}

fn read(exit: Exit) -> (u64, u8) {
    let exit = mmio(exit);
    assert!(!exit.write, "a write to {:#x}", exit.gpa);
    (exit.gpa, exit.len)
}

fn write(exit: Exit) -> (u64, Vec<u8>) {
    let exit = mmio(exit);
    assert!(exit.write, "a read of {:#x}", exit.gpa);
    (exit.gpa, exit.data[..usize::from(exit.len)].to_vec())
}

#[test]
fn a_read_changes_nothing_until_it_is_answered() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(eax, dword_ptr(DEVICE + 8)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(read(guest.run()), (DEVICE + 8, 4));
    assert_eq!((guest.rip(), guest.gpr(Gpr::Rax)), (START, 0));
    assert_eq!(guest.vcpu.pending(), Some(Pending::MmioRead { bytes: 4 }));
    assert_eq!(guest.vcpu.complete(&[1, 2, 3, 4]), None);
    assert_eq!(guest.gpr(Gpr::Rax), 0x0403_0201);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn a_write_leaves_after_the_instruction() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(dword_ptr(DEVICE), 0x1234_5678).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(write(guest.run()), (DEVICE, vec![0x78, 0x56, 0x34, 0x12]));
    assert_eq!(guest.rip(), START + 10);
    assert_eq!(guest.vcpu.pending(), Some(Pending::MmioWrite));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn a_read_modify_write_reads_then_writes() {
    let mut guest = Guest::protected_mode(|a| {
        a.lock().add(dword_ptr(DEVICE), 5).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(read(guest.run()), (DEVICE, 4));
    let exit = guest.vcpu.complete(&[10, 0, 0, 0]).expect("the write");
    assert_eq!(write(exit), (DEVICE, vec![15, 0, 0, 0]));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn rep_movs_from_device_to_device_alternates() {
    let mut guest = Guest::protected_mode(|a| {
        a.rep().movsw().unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rsi, DEVICE);
    guest.set_gpr(Gpr::Rdi, DEVICE + 0x100);
    guest.set_gpr(Gpr::Rcx, 2);
    assert_eq!(read(guest.run()), (DEVICE, 2));
    let exit = guest.vcpu.complete(&[1, 2]).expect("the first write");
    assert_eq!(write(exit), (DEVICE + 0x100, vec![1, 2]));
    assert_eq!(guest.gpr(Gpr::Rcx), 1);
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(read(guest.run()), (DEVICE + 2, 2));
    let exit = guest.vcpu.complete(&[3, 4]).expect("the second write");
    assert_eq!(write(exit), (DEVICE + 0x102, vec![3, 4]));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.gpr(Gpr::Rcx), 0);
}

#[test]
fn push_from_device_memory_reaches_the_stack() {
    let mut guest = Guest::protected_mode(|a| {
        a.push(dword_ptr(DEVICE)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(read(guest.run()), (DEVICE, 4));
    assert_eq!(guest.vcpu.complete(&[9, 8, 7, 6]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.read::<4>(START - 4), [9, 8, 7, 6]);
}

#[test]
fn an_access_across_device_pages_is_split_at_the_page() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(eax, dword_ptr(DEVICE + 0xFFD)).unwrap();
        a.mov(dword_ptr(DEVICE + 0xFFD), eax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(read(guest.run()), (DEVICE + 0xFFD, 3));
    let exit = guest.vcpu.complete(&[1, 2, 3]).expect("the second part");
    assert_eq!(read(exit), (DEVICE + 0x1000, 1));
    assert_eq!(guest.vcpu.complete(&[4]), None);
    assert_eq!(write(guest.run()), (DEVICE + 0xFFD, vec![1, 2, 3]));
    let exit = guest.vcpu.complete(&[]).expect("the second part");
    assert_eq!(write(exit), (DEVICE + 0x1000, vec![4]));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn sixteen_bytes_leave_in_two_halves() {
    let mut guest = Guest::long_mode(|a| {
        a.cmpxchg16b(xmmword_ptr(rsi)).unwrap();
        a.hlt().unwrap();
    });
    guest.write_u64(guest::PAGE_TABLE + 0x80 * 8, DEVICE | 3);
    guest.set_gpr(Gpr::Rsi, 0x8_0000);
    guest.set_gpr(Gpr::Rdx, 0);
    guest.set_gpr(Gpr::Rbx, 7);
    assert_eq!(read(guest.run()), (DEVICE, 8));
    let exit = guest.vcpu.complete(&[0; 8]).expect("the upper half");
    assert_eq!(read(exit), (DEVICE + 8, 8));
    let exit = guest.vcpu.complete(&[0; 8]).expect("the lower write");
    assert_eq!(write(exit), (DEVICE, vec![7, 0, 0, 0, 0, 0, 0, 0]));
    let exit = guest.vcpu.complete(&[]).expect("the upper write");
    assert_eq!(write(exit), (DEVICE + 8, vec![0; 8]));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
}

#[test]
fn read_only_memory_is_read_directly_and_written_as_a_device() {
    let mut guest = Guest::protected_mode(|a| {
        a.or(byte_ptr(DEVICE), 0x0F).unwrap();
        a.hlt().unwrap();
    });
    guest.add_page(DEVICE, PageFlags::READ | PageFlags::EXECUTE);
    assert_eq!(write(guest.run()), (DEVICE, vec![0x0F]));
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.read::<1>(DEVICE), [0]);
}

#[test]
fn fetching_from_a_device_is_an_emulation_failure() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(eax, DEVICE as u32).unwrap();
        a.jmp(eax).unwrap();
    });
    assert_eq!(guest.run(), Exit::EmulationFailure { bytes: [0; 15], len: 0 });
    assert_eq!(guest.rip(), DEVICE);
}
