//! BT, BTS, BTR and BTC of bits in memory that a register names, in each tier: the same words change,
//! and of the flags CF alone.

mod guest;
mod xorshift;

use cpu_defs::{Gpr, Reg, rflags};
use cpu_engine::Exit;
use guest::{Guest, PAGE_TABLE, TIERS, describe};
use iced_x86::code_asm::*;
use xorshift::Random;

/// The middle of some pages of RAM.
const WORDS: u64 = 0x2_0000;
/// Bits to both sides of it.
const REACH: u64 = 8 * 0x1800;

type Form = fn(&mut CodeAssembler);

/// What is done to the bit of a 64-bit register, or 32 bits of it, and how: each with RBX and another base.
const FORMS: [(u32, Operation, Form); 11] = [
    (64, Operation::Test, |a| a.bt(qword_ptr(rbx), rcx).unwrap()),
    (64, Operation::Test, |a| a.bt(qword_ptr(r15 + 8), r10).unwrap()),
    (32, Operation::Test, |a| a.bt(dword_ptr(rbx), ecx).unwrap()),
    (64, Operation::Set, |a| a.bts(qword_ptr(rbx + rax * 8), rcx).unwrap()),
    (64, Operation::Set, |a| a.lock().bts(qword_ptr(rbx), r10).unwrap()),
    (32, Operation::Set, |a| a.lock().bts(dword_ptr(rbx), ecx).unwrap()),
    (64, Operation::Reset, |a| a.btr(qword_ptr(r15 - 16), r10).unwrap()),
    (32, Operation::Reset, |a| a.lock().btr(dword_ptr(rbx + 1), r10d).unwrap()),
    (64, Operation::Complement, |a| a.btc(qword_ptr(rbx), rcx).unwrap()),
    (32, Operation::Complement, |a| a.btc(dword_ptr(rbx), r10d).unwrap()),
    (16, Operation::Set, |a| a.bts(word_ptr(rbx), cx).unwrap()),
];

#[derive(Clone, Copy)]
enum Operation {
    Test,
    Set,
    Reset,
    Complement,
}

/// Where each of [`FORMS`] has bit 0.
const BASES: [i64; 11] = [0, 8, 0, 16, 0, 0, -16, 1, 0, 0, 0];

fn bit_of(guest: &Guest, bit: i64) -> bool {
    guest.read::<1>(WORDS.wrapping_add((bit >> 3) as u64))[0] >> (bit & 7) & 1 != 0
}

#[test]
fn a_bit_is_where_its_signed_number_says() {
    let mut random = Random(0xB17);
    for (number, (bits, operation, form)) in FORMS.into_iter().enumerate() {
        for tier in TIERS {
            let mut guest = Guest::long_mode(|a| {
                a.mov(r10, rcx).unwrap();
                a.mov(r15, rbx).unwrap();
                a.push(rdx).unwrap();
                a.popfq().unwrap();
                form(a);
                a.pushfq().unwrap();
                a.pop(rdi).unwrap();
                a.hlt().unwrap();
            });
            tier(&mut guest);
            let start = guest.rip();
            for _ in 0..200 {
                let index = random.below(2 * REACH) as i64 - REACH as i64;
                let index = if bits == 16 { i64::from(index as i16) } else { index };
                let flags = random.below(1 << 12) & rflags::STATUS;
                // What is above the operand does not count.
                let above = if bits == 64 { 0 } else { random.below(1 << 31) << bits };
                let mask = u64::MAX >> (64 - bits);
                guest.set(Reg::Rip, start);
                guest.set_gpr(Gpr::Rsp, 0x8000);
                guest.set_gpr(Gpr::Rbx, WORDS);
                guest.set_gpr(Gpr::Rax, 2);
                guest.set_gpr(Gpr::Rcx, index as u64 & mask | above);
                guest.set_gpr(Gpr::Rdx, flags | 2);
                let bit = 8 * BASES[number] + index;
                let around = [bit - 1, bit, bit + 1].map(|bit| bit_of(&guest, bit));
                guest.run_to_hlt();
                let expected = match operation {
                    Operation::Test => around[1],
                    Operation::Set => true,
                    Operation::Reset => false,
                    Operation::Complement => !around[1],
                };
                let now = [bit - 1, bit, bit + 1].map(|bit| bit_of(&guest, bit));
                assert_eq!(now, [around[0], expected, around[2]], "form {number}, bit {index}");
                let flags = flags & !rflags::CF | u64::from(around[1]);
                let after = guest.gpr(Gpr::Rdi) & rflags::STATUS;
                assert_eq!(after, flags, "form {number}, bit {index}");
            }
        }
    }
}

#[test]
fn a_bit_of_a_device_is_read_there() {
    const DEVICE: u64 = 0x40_0000;
    const LINEAR: u64 = 0x1F_F000;
    for tier in TIERS {
        let mut guest = Guest::long_mode(|a| {
            a.bt(qword_ptr(rbx), rcx).unwrap();
            a.setc(al).unwrap();
            a.hlt().unwrap();
        });
        tier(&mut guest);
        guest.write_u64(PAGE_TABLE + (LINEAR >> 12) * 8, DEVICE | 7);
        guest.set_gpr(Gpr::Rbx, LINEAR - 0x1000);
        guest.set_gpr(Gpr::Rcx, 8 * 0x1008 + 5);
        let exit = guest.run();
        let Exit::Mmio(access) = exit else { panic!("{}", describe(&exit)) };
        assert_eq!((access.gpa, access.len, access.write), (DEVICE + 8, 8, false));
        assert_eq!(guest.vcpu.complete(&0x20_u64.to_le_bytes()), None);
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rax) & 1, 1);
    }
}
