//! Self-modifying code, code changed by others, kicks and flushes.

mod guest;

use cpu_defs::{Gpr, Reg, TableField};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, START, assemble, descriptor, host_is_amd};
use iced_x86::code_asm::*;

#[test]
fn a_store_to_the_next_instruction_of_the_same_block_takes_effect() {
    let mut guest = Guest::protected_mode(|a| {
        // Turns the INC EBX behind it into INC ECX.
        a.mov(byte_ptr(START + 7), 0x41).unwrap();
        a.inc(ebx).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!((guest.gpr(Gpr::Rbx), guest.gpr(Gpr::Rcx)), (0, 1));
}

#[test]
fn a_routine_rewritten_in_a_loop_is_decoded_each_time() {
    const ROUTINE: u64 = 0x3000;
    let mut guest = Guest::protected_mode(|a| {
        let mut head = a.create_label();
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut head).unwrap();
        a.mov(byte_ptr(ROUTINE + 1), cl).unwrap();
        a.call(ROUTINE).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    let routine = assemble(32, ROUTINE, |a| {
        a.add(al, 0).unwrap();
        a.ret().unwrap();
    });
    guest.load(ROUTINE, &routine);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax) & 0xFF, 5050 % 256);
}

#[test]
fn the_end_of_an_instruction_in_the_next_page_is_rewritten_in_a_loop() {
    const ROUTINE: u64 = 0x3FFE;
    let mut guest = Guest::long_mode(|a| {
        let mut head = a.create_label();
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut head).unwrap();
        a.mov(byte_ptr(ROUTINE + 2), cl).unwrap();
        a.call(ROUTINE).unwrap();
        a.call(ROUTINE).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    let routine = assemble(64, ROUTINE, |a| {
        a.add(rax, 0x100).unwrap();
        a.ret().unwrap();
    });
    guest.load(ROUTINE, &routine);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 2 * (100 * 0x100 + 5050));
}

#[test]
fn the_end_of_an_instruction_in_the_next_page_is_translated_anew() {
    const ROUTINE: u64 = 0x3FFE;
    let mut guest = Guest::long_mode(|a| {
        let (mut head, mut again) = (a.create_label(), a.create_label());
        a.set_label(&mut again).unwrap();
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut head).unwrap();
        a.call(ROUTINE).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.mov(qword_ptr(PAGE_TABLE + 4 * 8), 0x8003).unwrap();
        a.invlpg(ptr(0x4000)).unwrap();
        a.inc(ebx).unwrap();
        a.cmp(ebx, 2).unwrap();
        a.jne(again).unwrap();
        a.hlt().unwrap();
    });
    let routine = assemble(64, ROUTINE, |a| {
        a.add(rax, 0x100).unwrap();
        a.ret().unwrap();
    });
    guest.load(ROUTINE, &routine);
    guest.load(0x8000, &routine[2..]);
    guest.load(0x8000, &[7]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 100 * (0x100 + 0x107));
}

#[test]
fn rep_stos_over_code_takes_effect() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(edi, 0x3000).unwrap();
        a.call(0x3000_u64).unwrap();
        a.mov(ecx, 8).unwrap();
        a.mov(al, 0xC3).unwrap();
        a.rep().stosb().unwrap();
        a.call(0x3000_u64).unwrap();
        a.hlt().unwrap();
    });
    guest.load(0x3000, &[0x43, 0x43, 0xC3]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rbx), 2);
}

#[test]
fn data_beside_code_does_not_disturb() {
    let mut guest = Guest::protected_mode(|a| {
        let mut head = a.create_label();
        a.mov(ecx, 1000).unwrap();
        a.set_label(&mut head).unwrap();
        a.inc(dword_ptr(START + 0x800)).unwrap();
        a.loop_(head).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    assert_eq!(guest.read::<4>(START + 0x800), 1000_u32.to_le_bytes());
}

#[test]
fn code_changed_by_the_host_between_runs_is_noticed() {
    let mut guest = Guest::protected_mode(|a| {
        a.inc(ebx).unwrap();
        a.hlt().unwrap();
    });
    guest.run_to_hlt();
    guest.load(START, &[0x41]);
    guest.set(Reg::Rip, START);
    guest.run_to_hlt();
    assert_eq!((guest.gpr(Gpr::Rbx), guest.gpr(Gpr::Rcx)), (1, 1));
}

/// How often one processor rewrites what the other executes.
const REWRITES: u32 = 200;
const ROUTINE: u64 = 0x9000;
const WRITER: u64 = 0x3000;
const GDT: u64 = 0x5000;
/// The number of the last version that is there, and of the last that was executed.
const WRITTEN: u64 = 0xA000;
const EXECUTED: u64 = 0xB000;

/// Waits until the number at `address` is that in ESI.
fn wait_for(a: &mut CodeAssembler, address: u64) {
    let mut head = a.create_label();
    a.set_label(&mut head).unwrap();
    a.pause().unwrap();
    a.cmp(dword_ptr(address), esi).unwrap();
    a.jne(head).unwrap();
}

/// One processor rewrites a routine and says so, the other calls it after `serialize`; how often that
/// one has executed something else.
fn old_versions(translated: bool, serialize: impl FnOnce(&mut CodeAssembler)) -> u64 {
    let mut reader = Guest::long_mode(|a| {
        let (mut head, mut right) = (a.create_label(), a.create_label());
        a.mov(esi, 1).unwrap();
        a.set_label(&mut head).unwrap();
        a.nop().unwrap();
        wait_for(a, WRITTEN);
        serialize(a);
        a.call(ROUTINE).unwrap();
        a.cmp(edi, esi).unwrap();
        a.je(right).unwrap();
        a.inc(r12d).unwrap();
        a.set_label(&mut right).unwrap();
        a.mov(dword_ptr(EXECUTED), esi).unwrap();
        a.inc(esi).unwrap();
        a.cmp(esi, REWRITES as i32).unwrap();
        a.jbe(head).unwrap();
        a.hlt().unwrap();
    });
    let routine = assemble(64, ROUTINE, |a| {
        a.mov(edi, 0).unwrap();
        a.ret().unwrap();
    });
    reader.load(ROUTINE, &routine);
    reader.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0xA));
    reader.set(Reg::Gdtr(TableField::Base), GDT);
    reader.set(Reg::Gdtr(TableField::Limit), 0xF);
    let writer = assemble(64, WRITER, |a| {
        let mut head = a.create_label();
        a.mov(esi, 1).unwrap();
        a.set_label(&mut head).unwrap();
        a.mov(dword_ptr(ROUTINE + 1), esi).unwrap();
        a.mov(dword_ptr(WRITTEN), esi).unwrap();
        wait_for(a, EXECUTED);
        a.inc(esi).unwrap();
        a.cmp(esi, REWRITES as i32).unwrap();
        a.jbe(head).unwrap();
        a.hlt().unwrap();
    });
    reader.load(WRITER, &writer);
    let mut writer = reader.second_in_long_mode(WRITER);
    reader.vcpu.set_translated(translated);
    writer.vcpu.set_translated(translated);
    std::thread::scope(|scope| {
        scope.spawn(move || writer.run_to_hlt());
        reader.run_to_hlt();
    });
    reader.gpr(Gpr::R12)
}

fn return_from_interrupt(a: &mut CodeAssembler) {
    let mut behind = a.create_label();
    a.mov(rax, rsp).unwrap();
    a.push(0).unwrap();
    a.push(rax).unwrap();
    a.pushfq().unwrap();
    a.push(8).unwrap();
    a.lea(rax, ptr(behind)).unwrap();
    a.push(rax).unwrap();
    a.iretq().unwrap();
    a.set_label(&mut behind).unwrap();
}

#[test]
fn code_that_another_processor_writes_takes_effect_behind_a_serializing_instruction() {
    for translated in [false, true] {
        assert_eq!(old_versions(translated, return_from_interrupt), 0);
        let by_cpuid = |a: &mut CodeAssembler| {
            a.xor(eax, eax).unwrap();
            a.cpuid().unwrap();
        };
        assert_eq!(old_versions(translated, by_cpuid), 0);
        if !host_is_amd() {
            assert_eq!(old_versions(translated, |a| a.serialize().unwrap()), 0);
        }
    }
}

#[test]
fn a_kick_ends_an_endless_loop_and_sticks_until_taken() {
    let mut guest = Guest::protected_mode(|a| a.db(&[0xEB, 0xFE]).unwrap());
    guest.kick.exit();
    assert_eq!(guest.run(), Exit::Interrupted);
    let kick = guest.kick.clone();
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !kick.running() {
                std::hint::spin_loop();
            }
            kick.exit();
        });
        assert_eq!(guest.run(), Exit::Interrupted);
    });
    assert_eq!(guest.rip(), START);
    assert!(!guest.kick.running());
}

#[test]
fn an_unmapped_page_is_a_device_after_the_acknowledged_flush() {
    let mut guest = Guest::protected_mode(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head).unwrap();
        a.mov(eax, dword_ptr(0x8000)).unwrap();
        a.jmp(head).unwrap();
    });
    let (kick, map) = (guest.kick.clone(), guest.map.clone());
    let exit = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !kick.running() {
                std::hint::spin_loop();
            }
            map.unmap_page(0x8000).expect("mapped");
            kick.flush();
            while !kick.acked() && kick.running() {
                std::hint::spin_loop();
            }
        });
        guest.run()
    });
    assert!(matches!(exit, Exit::Mmio(mmio) if mmio.gpa == 0x8000));
}
