//! Vector registers of translated code: they are the guest's wherever somebody looks, and what may not
//! be used is noticed at the instruction.

mod guest;
mod rings;

use cpu_defs::{Gpr, Reg, cr0, cr4};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, START};
use iced_x86::code_asm::*;

const DATA: u64 = 0x2_0000;
/// A page that is not mapped.
const HOLE: u64 = 0x3_0000;
const ALL: u64 = cr4::OSFXSR | cr4::OSXSAVE | cr4::OSXMMEXCPT;
const UD: u64 = 6;
const NM: u64 = 7;
const GP: u64 = 13;
const PF: u64 = 14;
const XM: u64 = 19;

/// A guest at CPL 0 whose exception handlers halt, every vector register usable.
fn machine(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = rings::supervisor(ALL, program);
    guest.vcpu.set_translated(true);
    guest.set(Reg::Xcr0, 7);
    guest.write_u64(PAGE_TABLE + (HOLE >> 12) * 8, 0);
    guest.set_gpr(Gpr::Rdi, DATA);
    guest.set_gpr(Gpr::Rsi, HOLE - 8);
    for at in 0..16 {
        guest.write_u64(DATA + at * 8, 0x0101_0101_0101_0101 * (at + 1));
    }
    guest
}

/// The vector of the exception that ended the program, and the RIP that it pushed.
fn fault(guest: &mut Guest) -> (u64, u64) {
    assert_eq!(guest.run(), Exit::Hlt);
    let (vector, _) = rings::exception(guest).expect("a handler halted");
    let coded = u64::from(matches!(vector, GP | PF));
    (vector, guest.read_u64(guest.gpr(Gpr::Rsp) + 8 * coded) - START)
}

fn xmm(guest: &Guest, number: usize) -> u64 {
    u64::from_le_bytes(std::array::from_fn(|at| guest.vcpu.fpu().zmm[number][at]))
}

fn mxcsr(guest: &Guest) -> u32 {
    guest.vcpu.fpu().u32(24)
}

#[test]
fn registers_are_there_at_an_exit_and_behind_it() {
    let mut guest = machine(|a| {
        let mut head = a.create_label();
        a.set_label(&mut head).unwrap();
        a.paddq(xmm1, xmmword_ptr(rdi)).unwrap();
        a.out(0x10, eax).unwrap();
        a.paddq(xmm1, xmm1).unwrap();
        a.dec(ecx).unwrap();
        a.jnz(head).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rcx, 40);
    let one = 0x0101_0101_0101_0101_u64;
    let mut expected = 0_u64;
    for _ in 0..40 {
        assert!(matches!(guest.run(), Exit::Io(_)));
        expected = expected.wrapping_add(one);
        assert_eq!(xmm(&guest, 1), expected);
        // The VMM may change them, too.
        expected = expected.wrapping_add(5);
        guest.vcpu.fpu_mut().zmm[1][..8].copy_from_slice(&expected.to_le_bytes());
        assert_eq!(guest.vcpu.complete(&[]), None);
        expected = expected.wrapping_add(expected);
    }
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(xmm(&guest, 1), expected);
}

#[test]
fn a_fault_in_the_middle_leaves_what_was_before() {
    type Program = fn(&mut CodeAssembler);
    let cases: [(Program, u64); 5] = [
        // Crosses into the hole; the address is misaligned; it is above all memory; not canonical.
        (|a| a.paddq(xmm1, xmmword_ptr(rsi + 8)).unwrap(), PF),
        (|a| a.movups(xmmword_ptr(rsi), xmm1).unwrap(), PF),
        (|a| a.movaps(xmm1, xmmword_ptr(rdi + 8)).unwrap(), GP),
        (|a| a.movaps(xmmword_ptr(rsi), xmm1).unwrap(), GP),
        (|a| a.movsd_2(xmm1, qword_ptr(rdx)).unwrap(), GP),
    ];
    for (number, (program, vector)) in cases.into_iter().enumerate() {
        let mut guest = machine(|a| {
            a.movdqa(xmm1, xmmword_ptr(rdi)).unwrap();
            a.paddb(xmm1, xmm1).unwrap();
            a.cmp(eax, eax).unwrap();
            program(a);
            a.pxor(xmm1, xmm1).unwrap();
        });
        guest.set_gpr(Gpr::Rdx, 0x1234_5678_9ABC_DEF0);
        guest.set_gpr(Gpr::Rsp, 0x8000);
        let before = guest.read_u64(HOLE - 8);
        assert_eq!(fault(&mut guest), (vector, 10), "case {number}");
        assert_eq!(xmm(&guest, 1), 0x0202_0202_0202_0202, "case {number}");
        assert_eq!(guest.read_u64(HOLE - 8), before, "case {number}");
    }
}

#[test]
fn task_switched_is_noticed_at_the_next_instruction() {
    let mut guest = machine(|a| {
        a.paddq(xmm1, xmmword_ptr(rdi)).unwrap();
        a.mov(rax, cr0).unwrap();
        a.or(eax, cr0::TS as i32).unwrap();
        a.mov(cr0, rax).unwrap();
        a.nop().unwrap();
        a.paddq(xmm1, xmm1).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(fault(&mut guest), (NM, 16));
    assert_eq!(xmm(&guest, 1), 0x0101_0101_0101_0101);
    // What the handler of an operating system does: CLTS, and again.
    guest.set(Reg::Cr0, guest.vcpu.reg(Reg::Cr0) & !cr0::TS);
    guest.set(Reg::Rip, START + 16);
    guest.run_to_hlt();
    assert_eq!(xmm(&guest, 1), 0x0202_0202_0202_0202);
}

#[test]
fn what_is_not_enabled_is_undefined() {
    let program = |a: &mut CodeAssembler| {
        a.pxor(xmm2, xmm2).unwrap();
        a.vpaddq(ymm1, ymm1, ymm1).unwrap();
        a.hlt().unwrap();
    };
    for (name, enabled, xcr0, rip) in
        [("AVX", ALL, 3, 4), ("OSXSAVE", cr4::OSFXSR, 7, 4), ("OSFXSR", cr4::OSXSAVE, 7, 0)]
    {
        let mut guest = machine(program);
        guest.set(Reg::Xcr0, xcr0);
        guest.set(Reg::Cr4, cr4::PAE | enabled);
        assert_eq!(fault(&mut guest), (UD, rip), "without {name}");
    }
}

#[test]
fn an_exception_unmasked_in_the_middle_is_raised_there() {
    let mut guest = machine(|a| {
        a.movsd_2(xmm1, qword_ptr(rdi)).unwrap();
        a.pxor(xmm2, xmm2).unwrap();
        a.divsd(xmm1, xmm2).unwrap();
        a.ldmxcsr(dword_ptr(rdi + 8)).unwrap();
        a.movsd_2(xmm3, qword_ptr(rdi)).unwrap();
        a.divsd(xmm3, xmm2).unwrap();
        a.hlt().unwrap();
    });
    guest.write_u64(DATA, 1.5_f64.to_bits());
    // All masked but division by zero, and that flag not yet set.
    guest.write_u64(DATA + 8, 0x1D80);
    assert_eq!(fault(&mut guest), (XM, 20));
    assert_eq!(f64::from_bits(xmm(&guest, 1)), f64::INFINITY);
    assert_eq!(f64::from_bits(xmm(&guest, 3)), 1.5);
    assert_eq!(mxcsr(&guest), 0x1D84);
}

#[test]
fn flags_of_mxcsr_stay_set() {
    let mut guest = machine(|a| {
        a.cvtsi2sd(xmm1, eax).unwrap();
        a.divsd(xmm1, xmm2).unwrap();
        a.stmxcsr(dword_ptr(rdi)).unwrap();
        a.mov(ecx, dword_ptr(rdi)).unwrap();
        a.cpuid().unwrap();
        a.sqrtsd(xmm4, qword_ptr(rdi + 8)).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rax, 3);
    guest.write_u64(DATA + 8, (-2.0_f64).to_bits());
    guest.run_to_hlt();
    assert_eq!(guest.read_u64(DATA) as u32, 0x1F84, "division by zero");
    assert_eq!(mxcsr(&guest), 0x1F85, "and an invalid operand");
}

#[test]
fn upper_parts_survive_narrow_stretches() {
    if !is_x86_feature_detected!("avx2") {
        return;
    }
    let mut guest = machine(|a| {
        // Stretches of SSE, then AVX, then SSE again, separated by a callout.
        a.paddb(xmm1, xmm1).unwrap();
        a.cpuid().unwrap();
        a.vpaddb(ymm2, ymm1, ymm1).unwrap();
        a.paddb(xmm3, xmm3).unwrap();
        a.cpuid().unwrap();
        a.paddb(xmm2, xmm2).unwrap();
        a.hlt().unwrap();
    });
    for zmm in &mut guest.vcpu.fpu_mut().zmm {
        zmm.fill(1);
    }
    guest.run_to_hlt();
    let parts = |number: usize| [0, 16, 32].map(|at| guest.vcpu.fpu().zmm[number][at]);
    assert_eq!(parts(1), [2, 1, 1], "legacy instructions leave the rest");
    assert_eq!(parts(2), [8, 2, 0], "VEX instructions clear it");
    assert_eq!(parts(3), [2, 1, 1], "beside them as well");
}

#[test]
fn stores_past_the_caches_and_absolute_addresses() {
    let mut guest = machine(|a| {
        a.movnti(qword_ptr(rdi), rax).unwrap();
        a.movntdq(xmmword_ptr(rdi + 16), xmm1).unwrap();
        a.sfence().unwrap();
        a.mfence().unwrap();
        a.lfence().unwrap();
        a.clflush(byte_ptr(rdi)).unwrap();
        // mov rax, [DATA + 8]; mov [DATA + 40], rax
        a.db(&[0x48, 0xA1]).unwrap();
        a.db(&(DATA + 8).to_le_bytes()).unwrap();
        a.db(&[0x48, 0xA3]).unwrap();
        a.db(&(DATA + 40).to_le_bytes()).unwrap();
        a.clflush(byte_ptr(rsi + 8)).unwrap();
    });
    guest.set_gpr(Gpr::Rax, 77);
    assert_eq!(fault(&mut guest), (PF, 41));
    assert_eq!(guest.read_u64(DATA), 77);
    assert_eq!(guest.read_u64(DATA + 16), 0);
    assert_eq!(guest.read_u64(DATA + 40), guest.read_u64(DATA + 8));
}
