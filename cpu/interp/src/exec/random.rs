//! RDRAND and RDSEED: numbers of the host's own generator.
//!
//! A number that the host does not give at once is a failure that the guest sees (CF = 0), as on
//! a processor whose generator is exhausted.

use cpu_defs::rflags;
use iced_x86::{Instruction, Mnemonic};

use super::place::by_size;
use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::stop::Done;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Rdrand => by_size!(op.size, rdrand),
        Mnemonic::Rdseed => by_size!(op.size, rdseed),
        _ => return None,
    })
}

fn rdrand<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    give::<T>(cpu, op, cpu_host::random_number())
}

fn rdseed<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    give::<T>(cpu, op, cpu_host::random_seed())
}

/// The destination is zero where there is no number.
fn give<T: Int>(cpu: &mut Cpu, op: &Op, number: Option<u64>) -> Done {
    cpu.set(op.dst, T::from_u64(number.unwrap_or(0)));
    cpu.set_status(if number.is_some() { rflags::CF as u32 } else { 0 });
    Ok(())
}
