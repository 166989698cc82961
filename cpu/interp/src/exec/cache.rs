//! Cache lines, fences and hints: CLFLUSH, CLFLUSHOPT, CLWB, CLZERO, INVD, WBINVD, WBNOINVD, LFENCE,
//! MFENCE, SFENCE, SERIALIZE, MONITOR, MWAIT, PAUSE and NOPs.
//!
//! There is no cache: a line is looked at with the permissions of a load, and nothing happens to
//! it. Loads and stores of guest memory are the host's, in program order, and never weak ones:
//! MFENCE alone has something to order. MONITOR and MWAIT do nothing in ring 0, as KVM has it,
//! unless they are taken away; MWAITX may end at once.

use std::sync::atomic::{Ordering, fence};

use cpu_defs::{Gpr, SegReg};
use cpu_mmu::{Access, AccessKind};
use iced_x86::{Code, CodeSize, Instruction, Mnemonic, Register};

use super::undefined;
use crate::cpu::Cpu;
use crate::mode::Rights;
use crate::op::{Handler, Op, Rep};
use crate::stop::{Done, gp, ud};

/// Bytes in a cache line.
const LINE: u64 = 64;

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Nop
        | Mnemonic::Reservednop
        | Mnemonic::Pause
        | Mnemonic::Lfence
        | Mnemonic::Sfence
        | Mnemonic::Monitorx
        | Mnemonic::Mwaitx => |_, _| Ok(()),
        Mnemonic::Mfence => |_, _| {
            fence(Ordering::SeqCst);
            Ok(())
        },
        Mnemonic::Monitor | Mnemonic::Mwait => |cpu, _| {
            if cpu.arch.cpl != 0 || !cpu.has_mwait() { ud() } else { Ok(()) }
        },
        Mnemonic::Clflush | Mnemonic::Clflushopt | Mnemonic::Clwb => look_at_line,
        Mnemonic::Clzero if op.rep != Rep::Once => undefined,
        Mnemonic::Clzero => {
            op.address_mask = match instruction.code() {
                Code::Clzerow => 0xFFFF,
                Code::Clzerod => 0xFFFF_FFFF,
                _ => u64::MAX,
            };
            op.base = Gpr::Rax as u8;
            op.seg = match instruction.segment_prefix() {
                Register::None => SegReg::Ds as u8,
                // Without effect in 64-bit mode: an address that is not canonical is #GP.
                Register::SS if instruction.code_size() == CodeSize::Code64 => SegReg::Ds as u8,
                segment => segment.number() as u8,
            };
            clzero
        }
        Mnemonic::Serialize => |cpu, _| {
            cpu.serialize();
            Ok(())
        },
        Mnemonic::Invd | Mnemonic::Wbinvd | Mnemonic::Wbnoinvd => |cpu, _| {
            if cpu.arch.cpl != 0 {
                return gp(0);
            }
            cpu.serialize_fully();
            Ok(())
        },
        _ => return None,
    })
}

fn look_at_line(cpu: &mut Cpu, op: &Op) -> Done {
    let gla = cpu.linear(op.seg, cpu.offset(op), 1, Rights::READ)?;
    let access = Access { kind: AccessKind::Read, privilege: cpu.mode.privilege };
    cpu.span(op.seg, gla, 1, access).map(|_| ())
}

/// Stores zeros to the whole line around the address.
fn clzero(cpu: &mut Cpu, op: &Op) -> Done {
    let gla = cpu.linear(op.seg, cpu.offset(op), 1, Rights::WRITE)? & !(LINE - 1);
    if !cpu.mode.code64 {
        // As on AMD's processors, the segment must hold the whole line.
        let base = cpu.arch.seg[usize::from(op.seg & 7)].base;
        cpu.linear(op.seg, gla.wrapping_sub(base) & 0xFFFF_FFFF, LINE, Rights::WRITE)?;
    }
    let access = Access { kind: AccessKind::Write, privilege: cpu.mode.privilege };
    let span = cpu.span(op.seg, gla, LINE as usize, access)?;
    cpu.write_parts(span, &[0; LINE as usize]);
    Ok(())
}
