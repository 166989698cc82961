//! AND, OR, XOR, TEST, NOT.

use cpu_alu::logic;
use iced_x86::{Instruction, Mnemonic};

use super::arith::{binary, select_binary};
use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::stop::Done;

binary!(And, true, |a, b, _flags| logic::and(a, b));
binary!(Or, true, |a, b, _flags| logic::or(a, b));
binary!(Xor, true, |a, b, _flags| logic::xor(a, b));
binary!(Test, false, |a, b, _flags| (a, logic::test(a, b)));

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::And => select_binary::<And>(op),
        Mnemonic::Or => select_binary::<Or>(op),
        Mnemonic::Xor => select_binary::<Xor>(op),
        Mnemonic::Test => select_binary::<Test>(op),
        Mnemonic::Not => by_size!(op.size, not),
        _ => return None,
    })
}

fn not<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.update(op, |a: T| logic::not(a))
}
