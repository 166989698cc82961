//! Which control bits make vector registers usable, SIMD exceptions, and upper parts of registers.

mod machine;

use cpu_defs::{cr0, cr4, rflags, vector};
use cpu_host::{FSW, FTW, MXCSR};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use machine::{End, Machine, counting, dwords};

type Program = fn(&mut CodeAssembler) -> Result<(), IcedError>;

const MMX: Program = |a| a.paddb(mm1, mm2);
const SSE: Program = |a| a.paddb(xmm1, xmm2);
const AVX: Program = |a| a.vpaddb(xmm1, xmm1, xmm2);
const AVX512: Program = |a| a.vpaddb(zmm1, zmm1, zmm2);
const MASK: Program = |a| a.kandw(k1, k2, k3);

fn machine(program: Program) -> Machine {
    Machine::new(|a| program(a).unwrap())
}

#[test]
fn control_bits_decide_between_undefined_and_not_available() {
    type Change = fn(&mut Machine);
    let em: Change = |m| m.interp.cpu.arch.cr0 |= cr0::EM;
    let ts: Change = |m| m.interp.cpu.arch.cr0 |= cr0::TS;
    let both: Change = |m| m.interp.cpu.arch.cr0 |= cr0::EM | cr0::TS;
    let no_fxsr: Change = |m| m.interp.cpu.arch.cr4 &= !cr4::OSFXSR;
    let no_xsave: Change = |m| m.interp.cpu.arch.cr4 &= !cr4::OSXSAVE;
    let only_avx: Change = |m| m.interp.cpu.arch.xcr0 = 7;
    let only_sse: Change = |m| m.interp.cpu.arch.xcr0 = 3;
    let (ud, nm) = (Some(vector::UD), Some(vector::NM));
    // In the order MMX, SSE, AVX, AVX-512, mask registers.
    let cases: [(Change, [Option<u8>; 5]); 7] = [
        (em, [ud, ud, None, None, None]),
        (ts, [nm; 5]),
        (both, [ud, ud, nm, nm, nm]),
        (no_fxsr, [None, ud, None, None, None]),
        (no_xsave, [None, None, ud, ud, ud]),
        (only_avx, [None, None, None, ud, ud]),
        (only_sse, [None, None, ud, ud, ud]),
    ];
    for (number, (change, expected)) in cases.into_iter().enumerate() {
        for (program, expected) in [MMX, SSE, AVX, AVX512, MASK].into_iter().zip(expected) {
            let mut machine = machine(program);
            change(&mut machine);
            assert_eq!(machine.run().vector(), expected, "case {number}");
        }
    }
}

#[test]
fn unavailable_registers_come_before_faults_of_the_operand() {
    let mut machine = Machine::new(|a| a.movaps(xmm1, xmmword_ptr(1)).unwrap());
    machine.interp.cpu.arch.cr0 |= cr0::TS;
    assert_eq!(machine.run().vector(), Some(vector::NM));
}

#[test]
fn an_unmasked_simd_exception_changes_the_flags_of_mxcsr_alone() {
    for (osxmmexcpt, expected) in [(true, vector::XM), (false, vector::UD)] {
        let mut machine = machine(|a| a.divps(xmm1, xmm2));
        machine.set_vector(1, &dwords::<16>(&[0x3F80_0000; 4]));
        machine.set_vector(2, &dwords::<16>(&[0x3F80_0000, 0, 0x3F80_0000, 0x4040_0000]));
        machine.interp.cpu.fpu.set_u32(MXCSR, 0x1D80);
        if !osxmmexcpt {
            machine.interp.cpu.arch.cr4 &= !cr4::OSXMMEXCPT;
        }
        assert_eq!(machine.run().vector(), Some(expected));
        assert_eq!(machine.vector(1), dwords::<16>(&[0x3F80_0000; 4]));
        // Inexact comes after the computation, which the division by zero prevents.
        assert_eq!(machine.interp.cpu.fpu.u32(MXCSR), 0x1D84);
    }
}

#[test]
fn masked_exceptions_and_rounding_are_the_guests() {
    let mut machine = machine(|a| {
        a.divss(xmm1, xmm2)?;
        a.vdivss(xmm3, xmm1, xmm2.rn_sae())
    });
    machine.set_vector(1, &1.0_f32.to_le_bytes());
    machine.set_vector(2, &3.0_f32.to_le_bytes());
    machine.interp.cpu.fpu.set_u32(MXCSR, 0x5F80);
    assert_eq!(machine.run(), End::Done);
    assert_eq!(f32::from_le_bytes(machine.vector(1)).to_bits(), (1.0_f32 / 3.0).to_bits());
    assert_eq!(machine.interp.cpu.fpu.u32(MXCSR), 0x5FA0);
    machine.restart();
    machine.set_vector(1, &1.0_f32.to_le_bytes());
    machine.interp.cpu.fpu.set_u32(MXCSR, 0x3F80);
    assert_eq!(machine.run(), End::Done);
    assert_eq!(f32::from_le_bytes(machine.vector(1)).to_bits(), (1.0_f32 / 3.0).to_bits() - 1);
}

#[test]
fn vzero_clears_what_64_bit_code_names() {
    let mut machine = machine(|a| {
        a.vzeroupper()?;
        a.vmovdqa(ymm8, ymm9)?;
        a.vzeroall()
    });
    for number in 0..32 {
        machine.set_vector(number, &counting::<64>());
    }
    assert_eq!(machine.run(), End::Done);
    for number in 0..32 {
        let expected = if number < 16 { [0; 64] } else { counting() };
        assert_eq!(machine.vector(number), expected, "zmm{number}");
    }
}

#[test]
fn comparisons_set_the_status_flags() {
    let zf_pf_cf = 0x45;
    let cases: [(f32, f32, u64); 4] =
        [(1.0, 2.0, 1), (2.0, 1.0, 0), (1.0, 1.0, 0x40), (f32::NAN, 1.0, zf_pf_cf)];
    for (left, right, expected) in cases {
        let mut machine = machine(|a| a.ucomiss(xmm1, xmm2));
        machine.set_vector(1, &left.to_le_bytes());
        machine.set_vector(2, &right.to_le_bytes());
        machine.interp.cpu.arch.rflags |= rflags::STATUS | rflags::IF;
        assert_eq!(machine.run(), End::Done);
        assert_eq!(machine.flags(), expected);
        assert_ne!(machine.interp.cpu.arch.rflags & rflags::IF, 0);
    }
}

#[test]
fn string_comparison_takes_lengths_and_leaves_the_index() {
    let mut machine = machine(|a| {
        a.mov(eax, 5)?;
        a.mov(edx, 16)?;
        a.mov(rcx, -1_i64)?;
        a.pcmpestri(xmm1, xmm2, 0x0C)
    });
    machine.set_vector(1, b"cdefg");
    machine.set_vector(2, b"abcdefghijklmnop");
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.gpr(cpu_defs::Gpr::Rcx), 2);
    assert_eq!(machine.flags() & 1, 1);
}

#[test]
fn mmx_leaves_the_x87_pointers_alone_and_marks_every_register_valid() {
    let mut machine = machine(|a| {
        a.paddb(mm1, mm2)?;
        a.movq2dq(xmm1, mm1)?;
        a.emms()?;
        a.pcmpeqd(mm3, mm3)
    });
    machine.interp.cpu.fpu.set_u16(FSW, 0x3800);
    let before = machine.interp.cpu.fpu.legacy;
    assert_eq!(machine.run(), End::Done);
    let fpu = &machine.interp.cpu.fpu;
    assert_eq!((fpu.u16(FSW), fpu.legacy[FTW]), (0, 0xFF));
    assert_eq!(fpu.legacy[6..24], before[6..24]);
    assert_eq!(fpu.legacy[32 + 48..32 + 58], [0xFF; 10]);
}

#[test]
fn a_pending_x87_exception_is_raised_by_mmx() {
    let mut machine = machine(MMX);
    machine.interp.cpu.fpu.set_u16(cpu_host::FCW, 0x37E);
    machine.interp.cpu.fpu.set_u16(FSW, 0x8081);
    assert_eq!(machine.run().vector(), Some(vector::MF));
    let mut machine = Machine::new(|a| a.paddb(mm1, qword_ptr(machine::DATA)).unwrap());
    machine.unmap(machine::DATA);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    machine.restart();
    machine.interp.cpu.fpu.set_u16(cpu_host::FCW, 0x37E);
    machine.interp.cpu.fpu.set_u16(FSW, 0x8081);
    assert_eq!(machine.run().vector(), Some(vector::MF));
}
