//! VMCALL and VMMCALL: a call of the host, which answers in RAX.
//!
//! SDM volume 3, "VMCALL"; APM volume 3, "VMMCALL". Each vendor has its own of the two. There is
//! always a host to call, whatever CPUID says of virtualization.

use cpu_defs::Gpr;
use cpu_mmu::{Access, AccessKind};
use iced_x86::{Instruction, Mnemonic};

use crate::cpu::{Cpu, Request};
use crate::features::Vendor;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, ud};

/// Both have three bytes, behind the prefixes.
const LEN: u64 = 3;
const VMCALL: [u8; LEN as usize] = [0x0F, 0x01, 0xC1];
const VMMCALL: [u8; LEN as usize] = [0x0F, 0x01, 0xD9];

/// What the host answers to a call.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HypercallAnswer {
    /// RAX, of which 32 bits count outside 64-bit mode.
    Value(u64),
    /// #UD: there is nobody to call.
    Undefined,
}

impl Cpu {
    /// The instruction that calls the host on this processor.
    #[must_use]
    pub fn host_call(&self) -> [u8; LEN as usize] {
        if self.features.is_of(Vendor::Intel) { VMCALL } else { VMMCALL }
    }
}

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Vmcall => |cpu, op| call_or_repair(cpu, op, Vendor::Intel, VMMCALL),
        Mnemonic::Vmmcall => |cpu, op| call_or_repair(cpu, op, Vendor::Amd, VMCALL),
        _ => return None,
    })
}

fn call_or_repair(cpu: &mut Cpu, op: &Op, vendor: Vendor, other: [u8; LEN as usize]) -> Done {
    if cpu.features.is_of(vendor) {
        return call(cpu);
    }
    if !cpu.quirks.repair_hypercall {
        return ud();
    }
    repair(cpu, op, other)
}

/// The host acts, and the instruction runs again with its answer.
fn call(cpu: &mut Cpu) -> Done {
    let answer = match cpu.hypercall_answer.take() {
        Some(HypercallAnswer::Value(answer)) => answer,
        Some(HypercallAnswer::Undefined) => return ud(),
        None => {
            cpu.request = Some(Request::Hypercall);
            return Err(Stop::Exit);
        }
    };
    if cpu.mode.code64 {
        cpu.set(Gpr::Rax as u8, answer);
    } else {
        cpu.set(Gpr::Rax as u8, answer as u32);
    }
    Ok(())
}

/// Writes the right instruction in the place of this one, and goes on with it. #PF where the guest
/// could not write there itself.
fn repair(cpu: &mut Cpu, op: &Op, right: [u8; LEN as usize]) -> Done {
    let access = Access { kind: AccessKind::Write, privilege: cpu.mode.privilege };
    let at = cpu.linear_rip().wrapping_sub(LEN);
    let span = cpu.unaligned_span(cpu_defs::SegReg::Cs as u8, at, right.len(), access)?;
    cpu.write_parts(span, &right);
    cpu.arch.set_rip(cpu.arch.rip().wrapping_sub(u64::from(op.len)));
    Ok(())
}
