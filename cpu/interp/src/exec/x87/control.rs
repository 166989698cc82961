//! Control and status word, initialization, FWAIT, and what 80287 and 8087 had.
//!
//! SDM volume 1, "x87 FPU Control Instructions"; volume 3, "Initializing the x87 FPU".

use cpu_defs::cr0;
use cpu_host::{FCW, FSW};
use iced_x86::{Instruction, Mnemonic};

use super::{check_available, check_waiting, raise_pending};
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, nm};

/// FSW: what FNCLEX keeps, condition codes and top of stack.
const KEPT_STATUS: u16 = 0x7F00;

pub(super) fn select(instruction: &Instruction) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Fninit => |cpu, _| {
            check_available(cpu)?;
            cpu.fpu.init_x87();
            Ok(())
        },
        Mnemonic::Fnclex => |cpu, _| {
            check_available(cpu)?;
            let status = cpu.fpu.u16(FSW) & KEPT_STATUS;
            cpu.fpu.set_u16(FSW, status);
            Ok(())
        },
        Mnemonic::Fldcw => fldcw,
        Mnemonic::Fnstcw => |cpu, op| {
            check_available(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u16(FCW))
        },
        Mnemonic::Fnstsw => |cpu, op| {
            check_available(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u16(FSW))
        },
        // Of 8087 and 80287; they do nothing now.
        Mnemonic::Fneni | Mnemonic::Fndisi | Mnemonic::Fnsetpm => |cpu, _| check_available(cpu),
        Mnemonic::Wait => wait,
        _ => return None,
    })
}

/// May unmask an exception, which the next waiting instruction raises.
fn fldcw(cpu: &mut Cpu, op: &Op) -> Done {
    check_waiting(cpu)?;
    let control = cpu.load::<u16>(op, op.dst)?;
    let status = cpu.fpu.u16(FSW);
    cpu.fpu.set_control_status(control, status);
    Ok(())
}

fn wait(cpu: &mut Cpu, _: &Op) -> Done {
    let both = cr0::MP | cr0::TS;
    if cpu.arch.cr0 & both == both {
        return nm();
    }
    raise_pending(cpu)
}
