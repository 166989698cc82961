//! Memory operands of vector instructions: page ends, faults, alignment, devices, code that is
//! overwritten.

mod machine;

use cpu_defs::{Gpr, vector};
use cpu_interp::Request;
use iced_x86::Register;
use iced_x86::code_asm::*;
use machine::{DATA, DEVICE, End, Machine, START, counting};

const PAGE: u64 = 0x1000;

#[test]
fn loads_and_stores_of_every_width_cross_pages_byte_by_byte() {
    for offset in 0..64 {
        let (from, to) = (DATA + PAGE - offset, DATA + 3 * PAGE - offset);
        let mut machine = Machine::new(|a| {
            a.movdqu(xmm1, xmmword_ptr(rsi)).unwrap();
            a.vmovdqu(ymm2, ymmword_ptr(rsi)).unwrap();
            a.vmovdqu64(zmm3, zmmword_ptr(rsi)).unwrap();
            a.vmovdqu64(zmmword_ptr(rdi), zmm3).unwrap();
        });
        machine.write(from, &counting::<64>());
        machine.set_gpr(Gpr::Rsi, from);
        machine.set_gpr(Gpr::Rdi, to);
        assert_eq!(machine.run(), End::Done);
        assert_eq!(machine.vector(1), counting::<16>());
        assert_eq!(machine.vector::<64>(2)[..32], counting::<32>());
        assert_eq!(machine.vector::<64>(2)[32..], [0; 32]);
        assert_eq!(machine.vector(3), counting::<64>());
        assert_eq!(machine.read(to), counting::<64>());
        assert_eq!(machine.read::<1>(to - 1), [0]);
    }
}

#[test]
fn a_store_whose_second_page_is_missing_stores_nothing() {
    let to = DATA + PAGE - 16;
    let mut machine = Machine::new(|a| a.vmovups(ymmword_ptr(rdi), ymm1).unwrap());
    machine.set_vector(1, &counting::<32>());
    machine.set_gpr(Gpr::Rdi, to);
    machine.unmap(DATA + PAGE);
    let End::Fault { vector: number, error_code, rip } = machine.run() else {
        panic!("no page fault");
    };
    assert_eq!((number, error_code, rip), (vector::PF, Some(2), START));
    assert_eq!(machine.interp.cpu.arch.cr2, DATA + PAGE);
    assert_eq!(machine.read(to), [0; 16]);
}

#[test]
fn a_load_that_faults_leaves_the_destination() {
    let mut machine = Machine::new(|a| a.addps(xmm1, xmmword_ptr(rsi)).unwrap());
    machine.set_vector(1, &counting::<64>());
    machine.set_gpr(Gpr::Rsi, DATA);
    machine.unmap(DATA);
    assert_eq!(machine.run().vector(), Some(vector::PF));
    assert_eq!(machine.vector(1), counting::<64>());
}

#[test]
fn alignment_is_asked_of_legacy_operands_and_aligned_moves_only() {
    type Program = fn(&mut CodeAssembler) -> Result<(), iced_x86::IcedError>;
    let cases: [(Program, bool); 10] = [
        (|a| a.addps(xmm1, xmmword_ptr(rsi)), true),
        (|a| a.pshufb(xmm1, xmmword_ptr(rsi)), true),
        (|a| a.movaps(xmmword_ptr(rsi), xmm1), true),
        (|a| a.movups(xmmword_ptr(rsi), xmm1), false),
        (|a| a.lddqu(xmm1, xmmword_ptr(rsi)), false),
        (|a| a.pcmpistri(xmm1, xmmword_ptr(rsi), 0), false),
        (|a| a.vaddps(xmm1, xmm1, xmmword_ptr(rsi)), false),
        (|a| a.vmovdqa(ymm1, ymmword_ptr(rsi)), true),
        (|a| a.vmovntps(zmmword_ptr(rsi), zmm1), true),
        (|a| a.vmovdqu8(zmm1, zmmword_ptr(rsi)), false),
    ];
    for (number, (program, aligned)) in cases.into_iter().enumerate() {
        let mut machine = Machine::new(|a| program(a).unwrap());
        machine.set_gpr(Gpr::Rsi, DATA + 4);
        let expected = aligned.then_some(vector::GP);
        assert_eq!(machine.run().vector(), expected, "case {number}");
        machine.restart();
        machine.set_gpr(Gpr::Rsi, DATA);
        assert_eq!(machine.run(), End::Done, "case {number}");
    }
}

#[test]
fn a_misaligned_operand_in_a_missing_page_is_a_protection_fault() {
    let mut machine = Machine::new(|a| a.movaps(xmm1, xmmword_ptr(rsi)).unwrap());
    machine.set_gpr(Gpr::Rsi, DATA + 8);
    machine.unmap(DATA);
    assert_eq!(machine.run().vector(), Some(vector::GP));
}

#[test]
fn a_device_is_read_and_written_in_chunks() {
    let mut machine = Machine::new(|a| {
        a.movdqu(xmm1, xmmword_ptr(rsi)).unwrap();
        a.vmovdqu(ymmword_ptr(rsi + 64), ymm1).unwrap();
    });
    machine.set_gpr(Gpr::Rsi, DEVICE);
    for part in 0..2 {
        let Request::MmioRead(mut access) = machine.run_to_request() else {
            panic!("no device read");
        };
        assert_eq!((access.gpa, access.len), (DEVICE + 8 * part, 8));
        access.data = [part as u8 + 1; 8];
        machine.interp.cpu.memory.mmio.answer(access);
    }
    assert_eq!(machine.run_to_request(), Request::MmioWrite);
    let mut written = Vec::new();
    while let Some(access) = machine.interp.cpu.memory.mmio.next_write() {
        written.push((access.gpa - DEVICE, access.data[0]));
    }
    assert_eq!(written, [(64, 1), (72, 2), (80, 0), (88, 0)]);
}

#[test]
fn code_written_by_a_vector_store_is_executed() {
    let mut machine = Machine::new(|a| {
        a.movups(xmmword_ptr(rdi), xmm1).unwrap();
        a.nop().unwrap();
        a.ud2().unwrap();
    });
    // Over the NOP and UD2: INC RAX, HLT.
    machine.set_vector(1, &[0x48, 0xFF, 0xC0, 0xF4]);
    machine.set_gpr(Gpr::Rdi, START + 3);
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.gpr(Gpr::Rax), 1);
}

#[test]
fn more_code_than_the_arena_holds_is_executed() {
    let mut machine = Machine::new(|a| {
        let zmm = |number: i32| get_zmm(Register::ZMM0 + (number & 31)).expect("it exists");
        for number in 0..0x5000 {
            a.vpternlogd(zmm(number >> 8), zmm(number >> 13), zmm2, number & 0xFF).unwrap();
            if number % 1024 == 0 {
                a.inc(rbx).unwrap();
            }
        }
    });
    assert_eq!(machine.run(), End::Done);
    assert_eq!(machine.gpr(Gpr::Rbx), 20);
}
