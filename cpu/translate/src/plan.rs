//! Which host registers stand for the guest registers of a copied instruction.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::assemble::{R10, R11};
use crate::effects::Item;
use crate::emit::{GUEST_RSP, HostAddress};
use crate::frame::{Place, place};

/// A guest register in the frame that an instruction uses.
#[derive(Clone, Copy)]
pub(crate) struct Spill {
    pub scratch: u8,
    pub at: i32,
    pub written: bool,
}

/// Which registers stand for those of an instruction.
pub(crate) struct Plan {
    pub spills: Vec<Spill>,
    numbers: Vec<u8>,
}

impl Plan {
    /// None: there are not enough registers.
    pub(crate) fn of(infos: &mut InstructionInfoFactory, item: &Item) -> Option<Plan> {
        let mut plan = Plan { spills: Vec::new(), numbers: Vec::new() };
        let instruction = &item.instruction;
        let free: &[u8] = if item.has_memory() { &[R10] } else { &[R10, R11] };
        for operand in 0..instruction.op_count() {
            if instruction.op_kind(operand) != OpKind::Register {
                continue;
            }
            let number = gpr_number(instruction.op_register(operand));
            let Place::Frame(at) = place(number) else { continue };
            let access = infos.info(instruction).op_access(operand);
            let written = !matches!(access, OpAccess::Read | OpAccess::CondRead | OpAccess::None);
            if let Some(known) = plan.numbers.iter().position(|&known| known == number) {
                plan.spills[known].written |= written;
                continue;
            }
            let scratch = *free.get(plan.spills.len())?;
            plan.numbers.push(number);
            plan.spills.push(Spill { scratch, at, written });
        }
        // Restoring the flags takes R10 before the registers are loaded.
        Some(plan)
    }

    /// The instruction with our registers and address; None if it is the same.
    pub(crate) fn rewrite(&self, item: &Item, memory: Option<HostAddress>) -> Option<Instruction> {
        // Prefixes that mean nothing to an older instruction mean another one to the host.
        let mut changed = matches!(item.instruction.mnemonic(), Mnemonic::Bsf | Mnemonic::Bsr);
        let mut instruction = item.instruction;
        for operand in 0..instruction.op_count() {
            if instruction.op_kind(operand) != OpKind::Register {
                continue;
            }
            let register = instruction.op_register(operand);
            let number = gpr_number(register);
            let host = match self.numbers.iter().position(|&known| known == number) {
                Some(known) => self.spills[known].scratch,
                None if number == 4 => GUEST_RSP,
                None => continue,
            };
            instruction.set_op_register(operand, sized(register, host));
            changed = true;
        }
        if let Some(memory) = memory {
            instruction.set_segment_prefix(Register::None);
            instruction.set_memory_base(Register::R11);
            let pair = memory == HostAddress::Pair;
            instruction.set_memory_index(if pair { Register::R10 } else { Register::None });
            instruction.set_memory_index_scale(1);
            instruction.set_memory_displacement64(0);
            instruction.set_memory_displ_size(0);
            // XACQUIRE and XRELEASE: a hint that the host is not to take.
            instruction.set_has_repne_prefix(false);
            instruction.set_has_rep_prefix(false);
            changed = true;
        }
        changed.then_some(instruction)
    }
}

/// The number of the whole register: that of RAX for AH.
fn gpr_number(register: Register) -> u8 {
    register.full_register().number() as u8
}

/// The part of the host's register that `like` is of its own.
fn sized(like: Register, host: u8) -> Register {
    let first = match like.size() {
        1 => return BYTES[usize::from(host & 15)],
        2 => Register::AX,
        4 => Register::EAX,
        _ => Register::RAX,
    };
    first + u32::from(host)
}

/// Low bytes by number.
const BYTES: [Register; 16] = [
    Register::AL,
    Register::CL,
    Register::DL,
    Register::BL,
    Register::SPL,
    Register::BPL,
    Register::SIL,
    Register::DIL,
    Register::R8L,
    Register::R9L,
    Register::R10L,
    Register::R11L,
    Register::R12L,
    Register::R13L,
    Register::R14L,
    Register::R15L,
];
