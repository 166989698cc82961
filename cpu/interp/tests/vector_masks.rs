//! Masks: elements left out touch no memory; gathers and scatters go on where they stopped.

mod machine;

use cpu_defs::{Gpr, SegReg, vector};
use cpu_interp::Request;
use iced_x86::code_asm::*;
use machine::{DATA, DEVICE, End, Machine, counting, dwords};

const PAGE: u64 = 0x1000;
const NEXT: u64 = DATA + PAGE;

#[test]
fn a_masked_load_suppresses_faults_of_elements_left_out() {
    let mut machine = Machine::new(|a| {
        a.vmovdqu32(zmm1.k1().z(), zmmword_ptr(rsi)).unwrap();
        a.vpaddd(zmm2.k1(), zmm3, zmmword_ptr(rsi)).unwrap();
    });
    machine.write(NEXT - 16, &counting::<16>());
    machine.set_gpr(Gpr::Rsi, NEXT - 16);
    machine.set_mask(1, 0xFFF0_000F);
    machine.set_vector(1, &[0xEE; 64]);
    machine.set_vector(2, &[0xDD; 64]);
    machine.unmap(NEXT);
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.vector::<64>(1)[..16], counting::<16>());
    assert_eq!(machine.vector::<64>(1)[16..], [0; 48]);
    assert_eq!(machine.vector::<64>(2)[..16], counting::<16>());
    assert_eq!(machine.vector::<64>(2)[16..], [0xDD; 48]);

    machine.restart();
    machine.set_mask(1, 0x1F);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    assert_eq!(machine.interp.cpu.arch.cr2, NEXT);
}

#[test]
fn elements_are_judged_one_by_one_at_the_end_of_a_segment() {
    let mut machine = Machine::new(|a| {
        a.vmovdqu32(zmm1.k1(), zmmword_ptr(rsi)).unwrap();
    });
    let run = |machine: &mut Machine, mask: u64| {
        machine.restart();
        machine.set_mask(1, mask);
        let arch = &mut machine.interp.cpu.arch;
        arch.seg[SegReg::Cs as usize].attrib = 0xC09B;
        arch.seg[SegReg::Ds as usize].limit = (NEXT + 3) as u32;
        machine.interp.cpu.refresh();
        machine.run().vector()
    };
    machine.set_gpr(Gpr::Rsi, NEXT - 4);
    machine.unmap(NEXT);
    assert_eq!(run(&mut machine, 0b001), None);
    assert_eq!(run(&mut machine, 0b111), Some(vector::PF), "the second element precedes");
    assert_eq!(run(&mut machine, 0b101), Some(vector::GP));
    machine.map_again(NEXT);
    assert_eq!(run(&mut machine, 0b011), None);
    assert_eq!(run(&mut machine, 0b111), Some(vector::GP));
}

#[test]
fn elements_are_judged_one_by_one_at_the_end_of_the_canonical_addresses() {
    let mut machine = Machine::new(|a| {
        a.vmovdqu32(zmm1.k1(), zmmword_ptr(rsi)).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, 0x7FFF_FFFF_FFFC);
    for (mask, expected) in [(0b11, vector::PF), (0b10, vector::GP)] {
        machine.restart();
        machine.set_mask(1, mask);
        assert_eq!(machine.run().vector(), Some(expected), "mask {mask:#b}");
    }
}

#[test]
fn an_empty_mask_touches_nothing_but_a_permutation_reads_all() {
    let mut machine = Machine::new(|a| {
        a.vaddps(zmm1.k1(), zmm2, zmmword_ptr(rsi)).unwrap();
        a.vaddps(zmm1.k1(), zmm2, dword_bcst(rsi)).unwrap();
        a.vmovaps(zmmword_ptr(rsi + 1).k1(), zmm1).unwrap();
        a.vpcompressd(zmmword_ptr(rsi).k1(), zmm1).unwrap();
        a.vpexpandd(zmm1.k1(), zmmword_ptr(rsi)).unwrap();
        a.nop().unwrap();
        a.vshufps(zmm1.k1(), zmm2, zmmword_ptr(rsi), 0).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, DATA);
    machine.unmap(DATA);
    // Bits beyond the elements do not count.
    machine.set_mask(1, 0xFFFF_0000);
    let End::Fault { vector: number, rip, .. } = machine.run() else { panic!("no fault") };
    assert_eq!(number, vector::PF);
    let code = machine.read::<64>(machine::START);
    let nop = code.iter().position(|&byte| byte == 0x90).expect("the NOP") as u64;
    assert_eq!(rip, machine::START + nop + 1);
}

#[test]
fn a_masked_store_leaves_the_other_elements_alone() {
    let mut machine = Machine::new(|a| {
        a.vmovdqu8(zmmword_ptr(rdi).k1(), zmm1).unwrap();
        a.vextracti32x4(xmmword_ptr(rdi + 256).k2(), zmm1, 1).unwrap();
        a.vpmovdb(xmmword_ptr(rdi + 512).k2(), zmm1).unwrap();
    });
    for at in [0, 256, 512] {
        machine.write(DATA + at, &[0xCC; 64]);
    }
    machine.set_gpr(Gpr::Rdi, DATA);
    machine.set_vector(1, &counting::<64>());
    machine.set_mask(1, 0xF0F0_0000_0000_0001);
    machine.set_mask(2, 0b0110);
    assert_eq!(machine.run(), End::Done);
    let stored = machine.read::<64>(DATA);
    for (at, byte) in stored.into_iter().enumerate() {
        let chosen = 0xF0F0_0000_0000_0001_u64 >> at & 1 != 0;
        assert_eq!(byte, if chosen { at as u8 + 1 } else { 0xCC }, "byte {at}");
    }
    let mut expected = [0xCC; 16];
    expected[4..12].copy_from_slice(&counting::<64>()[20..28]);
    assert_eq!(machine.read(DATA + 256), expected);
    let mut expected = [0xCC; 16];
    (expected[1], expected[2]) = (5, 9);
    assert_eq!(machine.read(DATA + 512), expected);
}

#[test]
fn an_extraction_faults_for_elements_left_out_and_keeps_them() {
    let mut machine = Machine::new(|a| {
        a.vextractf32x4(xmmword_ptr(rdi).k1(), zmm1, 0).unwrap();
    });
    machine.set_gpr(Gpr::Rdi, NEXT - 8);
    machine.set_mask(1, 0);
    machine.unmap(NEXT);
    assert_eq!(machine.run().vector(), Some(vector::PF));
}

#[test]
fn compress_stores_and_expand_loads_only_what_the_mask_counts() {
    let mut machine = Machine::new(|a| {
        a.vpcompressd(zmmword_ptr(rdi).k1(), zmm1).unwrap();
        a.vpexpandd(zmm2.k1().z(), zmmword_ptr(rdi)).unwrap();
    });
    machine.set_vector(1, &counting::<64>());
    machine.set_gpr(Gpr::Rdi, NEXT - 12);
    machine.set_mask(1, 0b1000_0000_0100_0001);
    machine.unmap(NEXT);
    assert_eq!(machine.run(), End::Done);
    let elements = counting::<64>();
    assert_eq!(machine.read::<4>(NEXT - 12), elements[..4]);
    assert_eq!(machine.read::<4>(NEXT - 8), elements[24..28]);
    assert_eq!(machine.read::<4>(NEXT - 4), elements[60..]);
    let mut expected = [0; 64];
    for at in [0, 24, 60] {
        expected[at..at + 4].copy_from_slice(&elements[at..at + 4]);
    }
    assert_eq!(machine.vector(2), expected);
}

#[test]
fn vmaskmov_touches_the_elements_whose_sign_is_set() {
    let mut machine = Machine::new(|a| {
        a.vmaskmovps(ymm1, ymm2, ymmword_ptr(rsi)).unwrap();
        a.vpmaskmovq(xmmword_ptr(rdi), xmm3, xmm4).unwrap();
    });
    let (x, o) = (0x8000_0000, 0x7FFF_FFFF);
    machine.set_vector(2, &dwords::<32>(&[x, o, x, o, o, o, o, o]));
    machine.set_vector(3, &dwords::<16>(&[x, o, o, x]));
    machine.set_vector(4, &counting::<16>());
    machine.write(NEXT - 16, &counting::<16>());
    machine.set_gpr(Gpr::Rsi, NEXT - 16);
    machine.set_gpr(Gpr::Rdi, DATA - 8);
    machine.unmap(NEXT);
    machine.unmap(DATA - PAGE);
    assert_eq!(machine.run(), End::Done);
    let mut expected = [0; 64];
    expected[..4].copy_from_slice(&[1, 2, 3, 4]);
    expected[8..12].copy_from_slice(&[9, 10, 11, 12]);
    assert_eq!(machine.vector(1), expected);
    assert_eq!(machine.read::<8>(DATA), counting::<16>()[8..]);
}

#[test]
fn maskmovdqu_stores_the_bytes_whose_sign_is_set() {
    let mut machine = Machine::new(|a| a.maskmovdqu(xmm1, xmm2).unwrap());
    machine.set_vector(1, &counting::<16>());
    machine.set_vector(2, &[0x80, 0, 0xFF, 0x7F, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
    machine.set_gpr(Gpr::Rdi, NEXT - 4);
    machine.unmap(NEXT);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    assert_eq!(machine.read::<4>(NEXT - 4), [0; 4]);
    machine.map_again(NEXT);
    machine.restart();
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.read::<16>(NEXT - 4), [1, 0, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0]);
}

#[test]
fn maskmovq_is_an_mmx_instruction() {
    let mut machine = Machine::new(|a| {
        a.movq(mm1, rax).unwrap();
        a.movq(mm2, rbx).unwrap();
        a.maskmovq(mm1, mm2).unwrap();
        a.movq(rcx, mm1).unwrap();
    });
    machine.set_gpr(Gpr::Rax, 0x0807_0605_0403_0201);
    machine.set_gpr(Gpr::Rbx, 0x8000_0000_0000_0080);
    machine.set_gpr(Gpr::Rdi, DATA);
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.read(DATA), [1, 0, 0, 0, 0, 0, 0, 8]);
    assert_eq!(machine.gpr(Gpr::Rcx), 0x0807_0605_0403_0201);
    assert_eq!(machine.interp.cpu.fpu.legacy[cpu_host::FTW], 0xFF);
}

#[test]
fn a_gather_goes_on_behind_the_element_that_faulted() {
    let mut machine = Machine::new(|a| {
        a.vpgatherdd_3(ymm1, dword_ptr(rsi + ymm2 * 4), ymm3).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, DATA);
    let far = (PAGE / 4) as u32;
    machine.set_vector(2, &dwords::<32>(&[0, 1, 2, far, 3, 4, 5, 6]));
    machine.set_vector(3, &dwords::<32>(&[!0, 0, !0, !0, 0, 0, 0, !0]));
    machine.set_vector(1, &[0xEE; 64]);
    machine.write(DATA, &dwords::<32>(&[10, 11, 12, 13, 14, 15, 16, 17]));
    machine.write(NEXT, &[99, 0, 0, 0]);
    machine.unmap(NEXT);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    assert_eq!(machine.vector::<12>(1)[..4], [10, 0, 0, 0]);
    assert_eq!(machine.vector::<32>(3), dwords::<32>(&[0, 0, 0, !0, 0, 0, 0, !0]));

    // Done elements are not loaded again.
    machine.write(DATA, &[77; 12]);
    machine.map_again(NEXT);
    machine.restart();
    assert_eq!(machine.run(), End::Done);
    let kept = 0xEEEE_EEEE;
    let expected = dwords::<64>(&[10, kept, 12, 99, kept, kept, kept, 16]);
    assert_eq!(machine.vector(1), expected);
    assert_eq!(machine.vector::<64>(3), [0; 64]);
}

#[test]
fn a_scatter_stores_in_order_and_clears_its_mask() {
    let mut machine = Machine::new(|a| {
        a.vpscatterqd(dword_ptr(rdi + zmm2 * 1).k1(), ymm1).unwrap();
    });
    machine.set_gpr(Gpr::Rdi, DATA);
    for (number, offset) in [0_u64, 0, 4, 4, PAGE, 8, 8, 8].into_iter().enumerate() {
        let mut indexes = machine.vector::<64>(2);
        indexes[number * 8..number * 8 + 8].copy_from_slice(&offset.to_le_bytes());
        machine.set_vector(2, &indexes);
    }
    machine.set_vector(1, &dwords::<32>(&[1, 2, 3, 4, 5, 6, 7, 8]));
    machine.set_mask(1, 0b0111_0111);
    machine.unmap(NEXT);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    assert_eq!(machine.mask(1), 0b0111_0000);
    machine.map_again(NEXT);
    machine.restart();
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.mask(1), 0);
    assert_eq!(machine.read(DATA), dwords::<12>(&[2, 3, 7]));
    assert_eq!(machine.read(NEXT), [5, 0, 0, 0]);
}

#[test]
fn a_gather_from_a_device_reads_each_element_once() {
    let mut machine = Machine::new(|a| {
        a.vgatherdpd(xmm1.k1(), qword_ptr(rsi + xmm2 * 8)).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, DEVICE);
    machine.set_vector(2, &dwords::<8>(&[3, 1]));
    machine.set_mask(1, 3);
    let mut asked = Vec::new();
    while let Request::MmioRead(mut access) = machine.run_to_request() {
        asked.push(access.gpa - DEVICE);
        access.data = [asked.len() as u8; 8];
        machine.interp.cpu.memory.mmio.answer(access);
    }
    assert_eq!(asked, [24, 8]);
    assert_eq!(machine.vector::<16>(1)[..8], [1; 8]);
    assert_eq!(machine.vector::<16>(1)[8..], [2; 8]);
}

#[test]
fn gathers_whose_registers_coincide_are_undefined() {
    // vpgatherdd xmm1, [rsi+xmm1*4], xmm3; then with mask xmm1; then EVEX without a mask.
    let cases: [&[u8]; 4] = [
        &[0xC4, 0xE2, 0x61, 0x90, 0x0C, 0x8E],
        &[0xC4, 0xE2, 0x71, 0x90, 0x0C, 0x96],
        &[0xC4, 0xE2, 0x69, 0x90, 0x0C, 0x96],
        &[0x62, 0xF2, 0x7D, 0x48, 0x90, 0x0C, 0x96],
    ];
    for code in cases {
        assert_eq!(Machine::with_code(code).run().vector(), Some(vector::UD), "{code:02x?}");
    }
}

#[test]
fn a_single_step_ends_before_the_element_that_faults() {
    let mut machine = Machine::new(|a| {
        a.vpgatherqd(xmm1.k1(), dword_ptr(rsi + xmm2 * 1)).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, DATA);
    machine.write(DATA, &counting::<8>());
    machine.set_vector(2, &dwords::<16>(&[0, 0, PAGE as u32, 0]));
    machine.set_vector(1, &[0xEE; 64]);
    machine.set_mask(1, 3);
    machine.unmap(NEXT);
    machine.interp.cpu.arch.rflags |= cpu_defs::rflags::TF;
    let End::Fault { vector: number, rip, .. } = machine.run() else { panic!("no trap") };
    assert_eq!((number, rip, machine.mask(1)), (vector::DB, machine::START, 2));
    // Cleared above the indexes at once, above the data when it is done.
    assert_eq!(machine.vector::<16>(1)[..4], [1, 2, 3, 4]);
    assert_eq!(machine.vector::<16>(1)[4..], [0xEE; 12]);
    assert_eq!(machine.vector::<64>(1)[16..], [0; 48]);
}
