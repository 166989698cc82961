//! INVLPG and INVPCID.
//!
//! SDM volume 3, "Operations that Invalidate TLBs and Paging-Structure Caches".

use cpu_defs::{SegReg, cr4};
use iced_x86::{Instruction, Mnemonic};

use super::system::{ring0, system_operand};
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp};

/// Most bits that a process-context identifier has.
const PCID_LIMIT: u64 = 1 << 12;

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Invlpg => invlpg,
        Mnemonic::Invpcid => invpcid,
        _ => return None,
    })
}

/// An address that is not canonical is nowhere in the TLB.
fn invlpg(cpu: &mut Cpu, op: &Op) -> Done {
    ring0(cpu)?;
    let offset = cpu.offset(op);
    let uses_base = !cpu.mode.code64 || op.seg >= SegReg::Fs as u8;
    let base = if uses_base { cpu.arch.seg[usize::from(op.seg & 7)].base } else { 0 };
    let gla = base.wrapping_add(offset);
    cpu.memory.tlb.flush_page(if cpu.mode.code64 { gla } else { gla & 0xFFFF_FFFF });
    cpu.serialize();
    Ok(())
}

/// The descriptor is an identifier and a linear address.
fn invpcid(cpu: &mut Cpu, op: &Op) -> Done {
    ring0(cpu)?;
    let kind = system_operand(cpu, op.dst);
    if kind > 3 {
        return gp(0);
    }
    let descriptor: u128 = cpu.read(op.seg, cpu.offset(op))?;
    let (pcid, gla) = (descriptor as u64, (descriptor >> 64) as u64);
    let unused = cpu.arch.cr4 & cr4::PCIDE == 0;
    if pcid >= PCID_LIMIT || (kind < 2 && unused && pcid != 0) {
        return gp(0);
    }
    let canonical = cpu.is_canonical_base(gla);
    let tlb = &mut cpu.memory.tlb;
    match kind {
        0 if !canonical => return gp(0),
        0 => tlb.flush_page_of(pcid as u16, gla),
        1 => tlb.flush_pcid(pcid as u16),
        2 => tlb.flush_all(),
        _ => tlb.flush_all_non_global(),
    }
    cpu.serialize();
    Ok(())
}
