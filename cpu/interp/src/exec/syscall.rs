//! SYSCALL, SYSRET, SYSENTER, SYSEXIT.
//!
//! By vendor: AMD has SYSCALL outside 64-bit code but no SYSENTER in long mode, Intel the reverse.

use cpu_defs::{Gpr, SegReg, efer, rflags};
use iced_x86::{Code, Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::state::Segment;
use crate::stop::{Done, gp, ud};

/// Access rights of flat segments at DPL 0.
const CODE64: u16 = 0xA09B;
const CODE32: u16 = 0xC09B;
const DATA: u16 = 0xC093;
/// DPL field of level 3.
const DPL3: u16 = 0x60;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let handler: Handler = match instruction.mnemonic() {
        Mnemonic::Syscall => syscall,
        Mnemonic::Sysret | Mnemonic::Sysretq => sysret,
        Mnemonic::Sysenter => sysenter,
        Mnemonic::Sysexit | Mnemonic::Sysexitq => sysexit,
        _ => return None,
    };
    op.size = match instruction.code() {
        Code::Sysretq | Code::Sysexitq => 8,
        _ => 4,
    };
    Some(handler)
}

/// Loads flat CS and SS without looking at descriptors. The caller refreshes the mode.
fn load_flat(cpu: &mut Cpu, cs: u16, ss: u16, code: u16, level: u8) {
    let flat = |selector: u16, attrib: u16| Segment {
        selector: selector & !3 | u16::from(level),
        attrib: attrib | if level == 3 { DPL3 } else { 0 },
        unusable: false,
        limit: 0xFFFF_FFFF,
        base: 0,
    };
    cpu.arch.seg[SegReg::Cs as usize] = flat(cs, code);
    cpu.arch.seg[SegReg::Ss as usize] = flat(ss, DATA);
    cpu.arch.cpl = level;
}

fn syscall(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.efer & efer::SCE == 0 || !(cpu.mode.code64 || cpu.features.amd) {
        return ud();
    }
    let msrs = cpu.arch.msrs;
    let cs = (msrs.star >> 32) as u16;
    let rip = cpu.arch.rip();
    if !cpu.mode.long {
        cpu.arch.set_gpr(Gpr::Rcx, rip);
        cpu.arch.set_rip(msrs.star & 0xFFFF_FFFF);
        cpu.arch.rflags &= !(rflags::IF | rflags::VM | rflags::RF);
        load_flat(cpu, cs, cs.wrapping_add(8), CODE32, 0);
        cpu.refresh_code_and_stack();
        return Ok(());
    }
    cpu.arch.set_gpr(Gpr::Rcx, rip);
    cpu.arch.set_gpr(Gpr::R11, cpu.arch.rflags & !rflags::RF);
    cpu.arch.set_rip(if cpu.mode.code64 { msrs.lstar } else { msrs.cstar });
    cpu.arch.rflags &= !(msrs.sfmask | rflags::RF);
    cpu.arch.rflags |= rflags::FIXED_ONE;
    load_flat(cpu, cs, cs.wrapping_add(8), CODE64, 0);
    cpu.refresh_code_and_stack();
    cpu.inhibit_trap = true;
    Ok(())
}

fn sysret(cpu: &mut Cpu, op: &Op) -> Done {
    let outside = !cpu.mode.code64 && !cpu.features.amd;
    if cpu.arch.efer & efer::SCE == 0 || outside || !cpu.mode.protected {
        return ud();
    }
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    let rip = cpu.arch.gpr(Gpr::Rcx);
    // AMD processors notice at the fetch, in the user's code.
    if op.size == 8 && !cpu.features.amd && !cpu.mode.is_canonical(rip) {
        return gp(0);
    }
    let old_stack = *cpu.arch.segment(SegReg::Ss);
    let selector = (cpu.arch.msrs.star >> 48) as u16;
    let ss = selector.wrapping_add(8);
    if cpu.mode.long {
        let loaded = cpu.arch.gpr(Gpr::R11);
        cpu.set_rflags(loaded, 0x3C_7FD7);
    } else {
        cpu.set_rflags(rflags::IF, rflags::IF);
    }
    if op.size == 8 {
        cpu.arch.set_rip(rip);
        load_flat(cpu, selector.wrapping_add(16), ss, CODE64, 3);
    } else {
        cpu.arch.set_rip(rip & 0xFFFF_FFFF);
        load_flat(cpu, selector, ss, CODE32, 3);
    }
    if cpu.features.amd {
        keep_stack_segment(cpu, &old_stack);
    }
    cpu.refresh_code_and_stack();
    Ok(())
}

/// SYSRET of AMD loads only the selector of SS; the DPL follows the CPL.
fn keep_stack_segment(cpu: &mut Cpu, old: &Segment) {
    let ss = &mut cpu.arch.seg[SegReg::Ss as usize];
    *ss = Segment { selector: ss.selector, attrib: old.attrib | DPL3, ..*old };
}

fn sysenter(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.mode.long && cpu.features.amd {
        return ud();
    }
    let msrs = cpu.arch.msrs;
    if !cpu.mode.protected || msrs.sysenter_cs & 0xFFFC == 0 {
        return gp(0);
    }
    let cs = msrs.sysenter_cs as u16;
    cpu.arch.rflags &= !(rflags::VM | rflags::IF | rflags::RF);
    let (code, mask) = if cpu.mode.long { (CODE64, u64::MAX) } else { (CODE32, 0xFFFF_FFFF) };
    load_flat(cpu, cs, cs.wrapping_add(8), code, 0);
    cpu.refresh_code_and_stack();
    cpu.arch.set_gpr(Gpr::Rsp, msrs.sysenter_esp & mask);
    cpu.arch.set_rip(msrs.sysenter_eip & mask);
    cpu.inhibit_trap = true;
    Ok(())
}

fn sysexit(cpu: &mut Cpu, op: &Op) -> Done {
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    if cpu.mode.long && cpu.features.amd {
        return if cpu.arch.cpl != 0 { gp(0) } else { ud() };
    }
    let cs = cpu.arch.msrs.sysenter_cs as u16;
    if !cpu.mode.protected || cs & !3 == 0 {
        return gp(0);
    }
    let (rip, rsp) = (cpu.arch.gpr(Gpr::Rdx), cpu.arch.gpr(Gpr::Rcx));
    if op.size == 8 {
        if !cpu.mode.is_canonical(rip) || !cpu.mode.is_canonical(rsp) {
            return gp(0);
        }
        load_flat(cpu, cs.wrapping_add(32), cs.wrapping_add(40), CODE64, 3);
        cpu.arch.set_rip(rip);
        cpu.arch.set_gpr(Gpr::Rsp, rsp);
    } else {
        load_flat(cpu, cs.wrapping_add(16), cs.wrapping_add(24), CODE32, 3);
        cpu.arch.set_rip(rip & 0xFFFF_FFFF);
        cpu.arch.set_gpr(Gpr::Rsp, rsp & 0xFFFF_FFFF);
    }
    cpu.refresh_code_and_stack();
    Ok(())
}
