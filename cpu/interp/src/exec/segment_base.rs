//! RDFSBASE, RDGSBASE, WRFSBASE, WRGSBASE, SWAPGS. In 64-bit code only.

use cpu_defs::{SegReg, cr4};
use iced_x86::{Instruction, Mnemonic};

use crate::cpu::Cpu;
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::stop::{Done, gp, ud};

const FS: usize = SegReg::Fs as usize;
const GS: usize = SegReg::Gs as usize;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    let wide = op.size == 8;
    Some(match instruction.mnemonic() {
        Mnemonic::Rdfsbase if wide => |cpu, op| read::<u64>(cpu, op, FS),
        Mnemonic::Rdfsbase => |cpu, op| read::<u32>(cpu, op, FS),
        Mnemonic::Rdgsbase if wide => |cpu, op| read::<u64>(cpu, op, GS),
        Mnemonic::Rdgsbase => |cpu, op| read::<u32>(cpu, op, GS),
        Mnemonic::Wrfsbase if wide => |cpu, op| write::<u64>(cpu, op, FS),
        Mnemonic::Wrfsbase => |cpu, op| write::<u32>(cpu, op, FS),
        Mnemonic::Wrgsbase if wide => |cpu, op| write::<u64>(cpu, op, GS),
        Mnemonic::Wrgsbase => |cpu, op| write::<u32>(cpu, op, GS),
        Mnemonic::Swapgs => swapgs,
        _ => return None,
    })
}

fn check(cpu: &Cpu) -> Done {
    if cpu.mode.code64 && cpu.arch.cr4 & cr4::FSGSBASE != 0 { Ok(()) } else { ud() }
}

fn read<T: Int>(cpu: &mut Cpu, op: &Op, segment: usize) -> Done {
    check(cpu)?;
    cpu.set(op.dst, T::from_u64(cpu.arch.seg[segment].base));
    Ok(())
}

/// 32 bits are zero-extended.
fn write<T: Int>(cpu: &mut Cpu, op: &Op, segment: usize) -> Done {
    check(cpu)?;
    let base = cpu.get::<T>(op.dst).to_u64();
    // AMD looks at the width that is switched on, Intel at the one that could be.
    let canonical = match cpu.features.amd {
        true => cpu.mode.is_canonical(base),
        false => cpu.is_canonical_base(base),
    };
    if !canonical {
        return gp(0);
    }
    cpu.arch.seg[segment].base = base;
    Ok(())
}

fn swapgs(cpu: &mut Cpu, _: &Op) -> Done {
    if !cpu.mode.code64 {
        return ud();
    }
    if cpu.arch.cpl != 0 {
        return gp(0);
    }
    std::mem::swap(&mut cpu.arch.seg[GS].base, &mut cpu.arch.msrs.kernel_gs_base);
    Ok(())
}
