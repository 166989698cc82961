//! The control part of x87 and SSE: FNINIT, FNCLEX, FLDCW, FNSTCW, FNSTSW, FWAIT,
//! LDMXCSR, STMXCSR. Everything else of x87, MMX and SSE is refused.
//!
//! SDM volume 3, "Initializing the x87 FPU": #NM and #UD by CR0.EM, CR0.TS, CR4.OSFXSR.

use cpu_defs::{Exception, cr0, cr4, vector};
use cpu_host::{FCW, FSW, MXCSR, MXCSR_LEGAL};
use iced_x86::{CpuidFeature, EncodingKind, Instruction, Mnemonic};

use super::unsupported;
use crate::cpu::Cpu;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop, gp, ud};

pub(super) fn select(instruction: &Instruction, _: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Fninit => |cpu, _| {
            check_x87(cpu)?;
            cpu.fpu.init_x87();
            Ok(())
        },
        Mnemonic::Fnclex => |cpu, _| {
            check_x87(cpu)?;
            let status = cpu.fpu.u16(FSW) & 0x7F00;
            cpu.fpu.set_u16(FSW, status);
            Ok(())
        },
        Mnemonic::Fldcw => |cpu, op| {
            check_x87(cpu)?;
            let control = cpu.load::<u16>(op, op.dst)?;
            let status = cpu.fpu.u16(FSW);
            cpu.fpu.set_control_status(control, status);
            Ok(())
        },
        Mnemonic::Fnstcw => |cpu, op| {
            check_x87(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u16(FCW))
        },
        Mnemonic::Fnstsw => |cpu, op| {
            check_x87(cpu)?;
            cpu.store(op, op.dst, cpu.fpu.u16(FSW))
        },
        Mnemonic::Wait => wait,
        Mnemonic::Ldmxcsr => ldmxcsr,
        Mnemonic::Stmxcsr => stmxcsr,
        _ => return select_refusal(instruction),
    })
}

/// Failure for what would have to be executed.
fn select_refusal(instruction: &Instruction) -> Option<Handler> {
    if instruction.encoding() != EncodingKind::Legacy {
        return Some(unsupported);
    }
    let needs = instruction.cpuid_features();
    let any = |wanted: &[CpuidFeature]| wanted.iter().any(|feature| needs.contains(feature));
    let x87 = [
        CpuidFeature::FPU,
        CpuidFeature::FPU287,
        CpuidFeature::FPU387,
        CpuidFeature::FPU287XL_ONLY,
        CpuidFeature::FPU387SL_ONLY,
    ];
    if any(&x87) {
        return Some(refuse_x87);
    }
    any(&[CpuidFeature::MMX, CpuidFeature::SSE, CpuidFeature::SSE2]).then_some(refuse_sse)
}

fn refuse_x87(cpu: &mut Cpu, op: &Op) -> Done {
    check_x87(cpu)?;
    unsupported(cpu, op)
}

fn refuse_sse(cpu: &mut Cpu, op: &Op) -> Done {
    check_sse(cpu)?;
    unsupported(cpu, op)
}

fn not_available<T>() -> Result<T, Stop> {
    Err(Stop::Fault(Exception::plain(vector::NM)))
}

fn check_x87(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & (cr0::EM | cr0::TS) != 0 { not_available() } else { Ok(()) }
}

fn check_sse(cpu: &Cpu) -> Done {
    if cpu.arch.cr0 & cr0::EM != 0 || cpu.arch.cr4 & cr4::OSFXSR == 0 {
        return ud();
    }
    if cpu.arch.cr0 & cr0::TS != 0 { not_available() } else { Ok(()) }
}

fn wait(cpu: &mut Cpu, _: &Op) -> Done {
    let both = cr0::MP | cr0::TS;
    if cpu.arch.cr0 & both == both { not_available() } else { Ok(()) }
}

fn ldmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    check_sse(cpu)?;
    let value = cpu.load::<u32>(op, op.dst)?;
    if value & !MXCSR_LEGAL != 0 {
        return gp(0);
    }
    cpu.fpu.set_u32(MXCSR, value);
    Ok(())
}

fn stmxcsr(cpu: &mut Cpu, op: &Op) -> Done {
    check_sse(cpu)?;
    cpu.store(op, op.dst, cpu.fpu.u32(MXCSR))
}
