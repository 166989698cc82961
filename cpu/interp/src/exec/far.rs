//! Far JMP, CALL and RET; call gates.
//!
//! SDM volume 3, "Privilege Level Checking When Transferring Program Control Between Code
//! Segments".

use cpu_defs::{Gpr, SegReg, attrib, attrib::system_type, vector};
use iced_x86::{Code, Instruction, Mnemonic};

use super::frame::on_new_stack;
use super::task::Switch;
use crate::access::SS;
use crate::cpu::Cpu;
use crate::descriptor::{Descriptor, is_null, selector_fault};
use crate::op::{Handler, MEM, Op};
use crate::stop::{Done, Stop, gp};

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    if let Some(handler) = super::interrupt::select(instruction, op) {
        return Some(handler);
    }
    if let Some(handler) = super::iret::select(instruction, op) {
        return Some(handler);
    }
    op.size = match instruction.code() {
        Code::Jmp_ptr1616
        | Code::Jmp_m1616
        | Code::Call_ptr1616
        | Code::Call_m1616
        | Code::Retfw
        | Code::Retfw_imm16 => 2,
        Code::Jmp_ptr1632
        | Code::Jmp_m1632
        | Code::Call_ptr1632
        | Code::Call_m1632
        | Code::Retfd
        | Code::Retfd_imm16 => 4,
        Code::Jmp_m1664 | Code::Call_m1664 | Code::Retfq | Code::Retfq_imm16 => 8,
        _ => return None,
    };
    Some(match instruction.mnemonic() {
        Mnemonic::Jmp => jmp_far,
        Mnemonic::Call => call_far,
        _ => ret_far,
    })
}

/// Selector and offset of the operand.
fn target(cpu: &mut Cpu, op: &Op) -> Result<(u16, u64), Stop> {
    if op.dst != MEM {
        return Ok((op.disp as u16, op.imm));
    }
    match op.size {
        2 => cpu.load_far_pointer::<u16>(op),
        4 => cpu.load_far_pointer::<u32>(op),
        _ => cpu.load_far_pointer::<u64>(op),
    }
}

fn jmp_far(cpu: &mut Cpu, op: &Op) -> Done {
    let (selector, offset) = target(cpu, op)?;
    cpu.undoing(|cpu| {
        if !cpu.mode.has_descriptors() {
            let segment = cpu.real_code(selector, offset)?;
            cpu.enter_real(segment, offset);
            return Ok(());
        }
        match far_target(cpu, selector)? {
            Target::Code(code) => {
                let level = cpu.arch.cpl;
                cpu.load_code_segment(code, selector, level)?;
                cpu.enter_code(offset)
            }
            Target::Gate(gate) => {
                let (code, selector, offset, _) = through_gate(cpu, gate, Transfer::Jump)?;
                let level = cpu.arch.cpl;
                cpu.load_code_segment(code, selector, level)?;
                cpu.enter_code(offset)
            }
            Target::Task(task) => cpu.far_to_task(task, selector, Switch::Jump),
        }
    })
}

fn call_far(cpu: &mut Cpu, op: &Op) -> Done {
    let (selector, offset) = target(cpu, op)?;
    cpu.undoing(|cpu| {
        let (cs, rip) = (cpu.arch.segment(SegReg::Cs).selector, cpu.arch.rip());
        if !cpu.mode.has_descriptors() {
            let segment = cpu.real_segment(*cpu.arch.segment(SegReg::Cs), selector);
            let check = |cpu: &mut Cpu| cpu.real_code(selector, offset).map(|_| ());
            cpu.push_frame(op.size, &[u64::from(cs), rip], check)?;
            cpu.enter_real(segment, offset);
            return Ok(());
        }
        match far_target(cpu, selector)? {
            Target::Code(code) => {
                let level = cpu.arch.cpl;
                let frame = [u64::from(cs), rip];
                // From compatibility mode the frame is pushed as 64-bit code pushes.
                let widens = !cpu.mode.code64 && code.attrib() & attrib::L != 0;
                if cpu.mode.long && widens {
                    cpu.load_code_segment(code, selector, level)?;
                    cpu.push_frame(op.size, &frame, |cpu| cpu.check_entry(code, offset))?;
                } else {
                    cpu.push_frame(op.size, &frame, |cpu| cpu.check_entry(code, offset))?;
                    cpu.load_code_segment(code, selector, level)?;
                }
                cpu.enter_code(offset)
            }
            Target::Gate(gate) => call_gate(cpu, gate, cs, rip),
            Target::Task(task) => cpu.far_to_task(task, selector, Switch::Nested),
        }
    })
}

/// What a far selector names.
enum Target {
    Code(Descriptor),
    Gate(CallGate),
    /// A TSS descriptor or a task gate.
    Task(Descriptor),
}

/// The instruction that goes through a call gate.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Transfer {
    Jump,
    Call,
}

/// A call gate, with bits 63:32 of its offset in long mode.
#[derive(Clone, Copy)]
struct CallGate {
    gate: Descriptor,
    upper: u64,
}

fn far_target(cpu: &mut Cpu, selector: u16) -> Result<Target, Stop> {
    if is_null(selector) {
        return gp(0);
    }
    let descriptor = cpu.descriptor(selector, vector::GP, 0)?;
    if descriptor.is_system() {
        return gate_target(cpu, descriptor, selector);
    }
    let (cpl, rpl) = (cpu.arch.cpl, selector as u8 & 3);
    let level_fits = if descriptor.is_conforming() {
        descriptor.dpl() <= cpl
    } else {
        descriptor.dpl() == cpl && rpl <= cpl
    };
    if !descriptor.is_code() || !level_fits {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    cpu.check_code_size(descriptor, selector, 0)?;
    if !descriptor.is_present() {
        return Err(selector_fault(vector::NP, selector, 0));
    }
    Ok(Target::Code(descriptor))
}

fn gate_target(cpu: &mut Cpu, gate: Descriptor, selector: u16) -> Result<Target, Stop> {
    let kind = gate.kind();
    let task = matches!(
        kind,
        system_type::TASK_GATE | system_type::TSS_AVAILABLE | system_type::TSS16_AVAILABLE
    );
    let call =
        kind == system_type::CALL_GATE || (!cpu.mode.long && kind == system_type::CALL_GATE16);
    let visible = gate.dpl() >= cpu.arch.cpl.max(selector as u8 & 3);
    if !(call || (task && !cpu.mode.long)) || !visible {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    if !gate.is_present() {
        return Err(selector_fault(vector::NP, selector, 0));
    }
    if task {
        return Ok(Target::Task(gate));
    }
    let upper = if cpu.mode.long { cpu.wide_descriptor_upper(selector)? } else { 0 };
    Ok(Target::Gate(CallGate { gate, upper }))
}

/// Code segment, its selector, offset and operand size behind a call gate. A JMP cannot change
/// the privilege level.
fn through_gate(
    cpu: &mut Cpu,
    CallGate { gate, upper }: CallGate,
    transfer: Transfer,
) -> Result<(Descriptor, u16, u64, u8), Stop> {
    let selector = gate.gate_selector();
    if is_null(selector) {
        return gp(0);
    }
    let code = cpu.descriptor(selector, vector::GP, 0)?;
    let changes_level = !code.is_conforming() && code.dpl() != cpu.arch.cpl;
    if !code.is_code() || code.dpl() > cpu.arch.cpl || (transfer == Transfer::Jump && changes_level)
    {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    if cpu.mode.long && code.attrib() & (attrib::L | attrib::DB) != attrib::L {
        return Err(selector_fault(vector::GP, selector, 0));
    }
    if !code.is_present() {
        return Err(selector_fault(vector::NP, selector, 0));
    }
    if cpu.mode.long {
        let offset = gate.gate_offset(true) | (upper << 32);
        return Ok((code, selector, offset, 8));
    }
    let wide = gate.kind() == system_type::CALL_GATE;
    Ok((code, selector, gate.gate_offset(wide), if wide { 4 } else { 2 }))
}

fn call_gate(cpu: &mut Cpu, call_gate: CallGate, cs: u16, rip: u64) -> Done {
    let (code, selector, offset, size) = through_gate(cpu, call_gate, Transfer::Call)?;
    let inner = !code.is_conforming() && code.dpl() < cpu.arch.cpl;
    let level = if inner { code.dpl() } else { cpu.arch.cpl };
    if inner {
        let (old_ss, old_rsp) = (cpu.arch.segment(SegReg::Ss).selector, cpu.arch.gpr(Gpr::Rsp));
        let parameters = read_parameters(cpu, call_gate.gate, size)?;
        let (pointer, stack) = cpu.tss_stack(level, 0)?;
        let segment = if cpu.mode.long {
            super::segment::null_stack(level)
        } else {
            cpu.stack_segment(stack, level, vector::TS, 0)?
        };
        enter_long_code(cpu, code, selector, level)?;
        cpu.switch_stack(level, segment, pointer);
        let mut frame = vec![u64::from(old_ss), old_rsp];
        frame.extend(parameters.into_iter().rev());
        frame.extend([u64::from(cs), rip]);
        let stack = if cpu.mode.long { 0 } else { stack };
        cpu.push_frame(size, &frame, |cpu| cpu.check_entry(code, offset))
            .map_err(|stop| on_new_stack(stop, stack, 0))?;
    } else {
        enter_long_code(cpu, code, selector, level)?;
        cpu.push_frame(size, &[u64::from(cs), rip], |cpu| cpu.check_entry(code, offset))?;
    }
    cpu.load_code_segment(code, selector, level)?;
    cpu.enter_code(offset)
}

/// In long mode the frame is pushed with the 64-bit stack of the code behind the gate.
fn enter_long_code(cpu: &mut Cpu, code: Descriptor, selector: u16, level: u8) -> Done {
    if cpu.mode.long { cpu.load_code_segment(code, selector, level) } else { Ok(()) }
}

/// The parameters that the gate copies, lowest address first.
fn read_parameters(cpu: &mut Cpu, gate: Descriptor, size: u8) -> Result<Vec<u64>, Stop> {
    if cpu.mode.long {
        return Ok(Vec::new());
    }
    let mut parameters = Vec::new();
    for number in 0..u64::from(gate.gate_parameters()) {
        let at = cpu.stack_pointer().wrapping_add(number * u64::from(size));
        let at = at & cpu.mode.stack_mask;
        parameters.push(match size {
            2 => u64::from(cpu.read::<u16>(SS, at)?),
            _ => u64::from(cpu.read::<u32>(SS, at)?),
        });
    }
    Ok(parameters)
}

/// The immediate releases parameters on both stacks.
fn ret_far(cpu: &mut Cpu, op: &Op) -> Done {
    cpu.undoing(|cpu| {
        let rip = cpu.pop_sized(op.size)?;
        let selector = cpu.pop_sized(op.size)? as u16;
        if !cpu.mode.has_descriptors() {
            cpu.release_stack(op.imm);
            let segment = cpu.real_code(selector, rip)?;
            cpu.enter_real(segment, rip);
            return Ok(());
        }
        let code = cpu.return_code_segment(selector)?;
        let level = selector as u8 & 3;
        cpu.release_stack(op.imm);
        if level == cpu.arch.cpl {
            cpu.load_code_segment(code, selector, level)?;
            return cpu.enter_code(rip);
        }
        let pointer = cpu.pop_sized(op.size)?;
        let stack = cpu.pop_sized(op.size)? as u16;
        let segment = cpu.return_stack_segment(stack, code, level)?;
        cpu.load_code_segment(code, selector, level)?;
        cpu.switch_stack(level, segment, pointer);
        cpu.release_stack(op.imm);
        cpu.enter_code(rip)?;
        cpu.drop_privileged_segments();
        Ok(())
    })
}
