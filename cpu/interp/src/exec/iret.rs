//! IRET in every mode. With RFLAGS.NT it is a task switch.

use cpu_defs::{Gpr, SegReg, rflags};
use iced_x86::{Instruction, Mnemonic};

use super::virtual_interrupts::InterruptFlag;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::state::Segment;
use crate::stop::{Done, gp};

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    op.size = match instruction.mnemonic() {
        Mnemonic::Iret => 2,
        Mnemonic::Iretd => 4,
        Mnemonic::Iretq => 8,
        _ => return None,
    };
    Some(iret)
}

fn iret(cpu: &mut Cpu, op: &Op) -> Done {
    // Even if it faults.
    cpu.arch.nmi_blocked = false;
    cpu.undoing(|cpu| {
        if !cpu.mode.protected {
            iret_real(cpu, op.size)?;
        } else if cpu.mode.v86 {
            if cpu.stacked_interrupt_flag(op.size) == InterruptFlag::Refused {
                return gp(0);
            }
            iret_real(cpu, op.size)?;
        } else {
            iret_protected(cpu, op.size)?;
        }
        cpu.serialize();
        // IF may be set and NMIs are unblocked.
        cpu.attention |= cpu.watch_interrupt_flag;
        Ok(())
    })
}

/// The bits of RFLAGS that IRET of this operand size loads at the present privilege.
fn loadable(cpu: &Cpu, size: u8) -> u64 {
    let mask = cpu.writable_rflags() | rflags::RF;
    if size == 2 { mask & 0xFFFF } else { mask }
}

fn iret_real(cpu: &mut Cpu, size: u8) -> Done {
    let mask = loadable(cpu, size) & !if cpu.mode.v86 { rflags::IOPL } else { 0 };
    let rip = cpu.pop_sized(size)?;
    let selector = cpu.pop_sized(size)? as u16;
    let flags = cpu.pop_sized(size)?;
    let flag = cpu.stacked_interrupt_flag(size);
    if flag == InterruptFlag::Virtual {
        cpu.check_virtual_flags(flags)?;
    }
    let segment = cpu.real_code(selector, rip)?;
    cpu.enter_real(segment, rip);
    if flag == InterruptFlag::Virtual {
        cpu.load_virtual_flags(flags);
    } else {
        cpu.set_rflags(flags, mask);
    }
    Ok(())
}

fn iret_protected(cpu: &mut Cpu, size: u8) -> Done {
    if cpu.arch.rflags & rflags::NT != 0 {
        return if cpu.mode.long { gp(0) } else { cpu.return_to_task() };
    }
    let mut mask = loadable(cpu, size);
    if cpu.arch.cpl == 0 && size > 2 {
        mask |= rflags::VIF | rflags::VIP;
    }
    let from64 = cpu.mode.code64;
    let rip = cpu.pop_sized(size)?;
    let selector = cpu.pop_sized(size)? as u16;
    let flags = cpu.pop_sized(size)?;
    let to_v86 = flags & rflags::VM != 0 && cpu.arch.cpl == 0 && size == 4 && !cpu.mode.long;
    if to_v86 {
        return iret_to_v86(cpu, rip, selector, flags);
    }
    let code = cpu.return_code_segment(selector)?;
    let level = selector as u8 & 3;
    let outer = level > cpu.arch.cpl;
    if outer || from64 {
        let pointer = cpu.pop_sized(size)?;
        let stack = cpu.pop_sized(size)? as u16;
        let segment = cpu.return_stack_segment(stack, code, level)?;
        cpu.load_code_segment(code, selector, level)?;
        cpu.switch_stack(level, segment, pointer);
    } else {
        cpu.load_code_segment(code, selector, level)?;
    }
    cpu.enter_code(rip)?;
    cpu.set_rflags(flags, mask);
    if outer {
        cpu.drop_privileged_segments();
    }
    Ok(())
}

fn iret_to_v86(cpu: &mut Cpu, rip: u64, selector: u16, flags: u64) -> Done {
    let pointer = cpu.pop_sized(4)?;
    let mut selectors = [0; 6];
    selectors[SegReg::Cs as usize] = selector;
    for reg in [SegReg::Ss, SegReg::Es, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        selectors[reg as usize] = cpu.pop_sized(4)? as u16;
    }
    for (segment, selector) in cpu.arch.seg.iter_mut().zip(selectors) {
        *segment = Segment { limit: 0xFFFF, attrib: 0xF3, ..segment.with_real_selector(selector) };
    }
    cpu.set_rflags(flags, u64::MAX);
    cpu.arch.cpl = 3;
    cpu.refresh();
    cpu.arch.set_gpr(Gpr::Rsp, pointer);
    cpu.enter_code(rip & 0xFFFF)
}
