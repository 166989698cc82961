//! Turns a decoded instruction into an [`Op`]: operand places, address parts, handler.

use cpu_defs::Exception;
use iced_x86::{
    Code, CodeSize, Decoder, DecoderError, FlowControl, Instruction, Mnemonic, OpKind, Register,
};

use super::amd;
use super::length::is_too_long;
use crate::exec;
use crate::features::Features;
use crate::int::{HIGH_BYTE, RIP, ZERO};
use crate::native::Native;
use crate::op::{IMM, MEM, NONE, Op, Rep};

/// Longest legal instruction in bytes.
pub(crate) const MAX_LEN: usize = 15;

/// F3, and a prefix that 64-bit code ignores.
const REP: u8 = 0xF3;
const DS_OVERRIDE: u8 = 0x3E;

/// What the bytes at a position are.
pub(crate) enum Decoded {
    /// An instruction; `last` if no other may follow it in its block.
    Op { op: Op, last: bool },
    /// The bytes end before the instruction does.
    Truncated,
    /// Decoding itself raises this.
    Fault(Exception),
}

/// Decodes one instruction. `bits` is the default size of the code segment; at most 15 bytes
/// are looked at.
pub(crate) fn decode_one(
    bytes: &[u8],
    bits: u8,
    features: &Features,
    native: &mut Native,
) -> Decoded {
    let bytes = &bytes[..bytes.len().min(MAX_LEN)];
    // The position is irrelevant: everything relative is kept relative.
    let mut decoder = Decoder::with_ip(u32::from(bits), bytes, 0, features.decoder_options());
    let instruction = decoder.decode();
    match decoder.last_error() {
        DecoderError::None => {}
        _ if features.amd
            && let Some(wide) = amd::permutation(bytes) =>
        {
            return decode_one(&wide[..bytes.len()], bits, features, native);
        }
        DecoderError::NoMoreBytes if features.amd && amd::is_ud1(bytes, bits) => {
            return Decoded::Fault(Exception::ud());
        }
        DecoderError::NoMoreBytes => return Decoded::Truncated,
        _ if is_too_long(bytes, bits, features.decoder_options()) => {
            return Decoded::Fault(Exception::gp(0));
        }
        _ => return Decoded::Fault(Exception::ud()),
    }
    if features.amd && bits != 64 && amd::is_wide_dword(&instruction, bytes) {
        return Decoded::Fault(Exception::ud());
    }
    if is_exchange_with_r8(&instruction, bytes, bits) {
        let mut plain = [0; MAX_LEN];
        let plain = &mut plain[..instruction.len()];
        plain.copy_from_slice(&bytes[..instruction.len()]);
        plain.iter_mut().filter(|byte| **byte == REP).for_each(|byte| *byte = DS_OVERRIDE);
        return decode_one(plain, bits, features, native);
    }
    let mut op = digest(&instruction);
    op.fop = exec::x87_opcode(bytes);
    op.run = exec::select(&instruction, &mut op, features, native);
    Decoded::Op { op, last: ends_block(&instruction) }
}

/// With REX.B, opcode 90H is XCHG with R8 even behind F3, which has no meaning then.
fn is_exchange_with_r8(instruction: &Instruction, bytes: &[u8], bits: u8) -> bool {
    let rex = instruction.len().checked_sub(2).and_then(|at| bytes.get(at));
    instruction.code() == Code::Pause && bits == 64 && rex.is_some_and(|rex| rex & 0xF1 == 0x41)
}

fn digest(instruction: &Instruction) -> Op {
    let mut op = Op {
        run: exec::undefined,
        imm: 0,
        disp: 0,
        address_mask: u64::MAX,
        base: ZERO,
        index: ZERO,
        scale: 0,
        seg: 0,
        dst: NONE,
        src: NONE,
        third: NONE,
        size: 0,
        fop: 0,
        len: instruction.len() as u8,
        lock: instruction.has_lock_prefix(),
        rep: repeat(instruction),
    };
    for number in 0..instruction.op_count() {
        let place = operand(instruction, number, &mut op);
        match number {
            0 => op.dst = place,
            1 => op.src = place,
            2 => op.third = place,
            _ => {}
        }
    }
    op.size = operand_size(instruction, 0);
    op
}

fn repeat(instruction: &Instruction) -> Rep {
    match (instruction.has_rep_prefix(), instruction.has_repne_prefix()) {
        (true, _) => Rep::WhileEqual,
        (_, true) => Rep::WhileNotEqual,
        _ => Rep::Once,
    }
}

fn operand(instruction: &Instruction, number: u32, op: &mut Op) -> u8 {
    match instruction.op_kind(number) {
        OpKind::Register => register_number(instruction.op_register(number)),
        OpKind::NearBranch16 | OpKind::NearBranch32 | OpKind::NearBranch64 => {
            op.imm = instruction.near_branch_target().wrapping_sub(instruction.next_ip());
            IMM
        }
        OpKind::FarBranch16 => {
            op.imm = u64::from(instruction.far_branch16());
            op.disp = u64::from(instruction.far_branch_selector());
            IMM
        }
        OpKind::FarBranch32 => {
            op.imm = u64::from(instruction.far_branch32());
            op.disp = u64::from(instruction.far_branch_selector());
            IMM
        }
        OpKind::Memory => {
            memory_operand(instruction, op);
            MEM
        }
        OpKind::Immediate8_2nd => instruction.immediate8_2nd(),
        kind => match string_address_mask(kind) {
            Some(mask) => {
                op.address_mask = mask;
                op.seg = segment_number(memory_segment(instruction));
                MEM
            }
            None => {
                op.imm = instruction.immediate(number);
                IMM
            }
        },
    }
}

fn memory_operand(instruction: &Instruction, op: &mut Op) {
    let (base, index) = (instruction.memory_base(), instruction.memory_index());
    op.seg = segment_number(memory_segment(instruction));
    op.disp = instruction.memory_displacement64();
    op.scale = instruction.memory_index_scale().trailing_zeros() as u8;
    if instruction.is_ip_rel_memory_operand() {
        op.disp = op.disp.wrapping_sub(instruction.next_ip());
    }
    op.base = address_slot(base);
    op.index = address_slot(index);
    let bytes = match (base, index) {
        (Register::None, Register::None) => instruction.memory_displ_size(),
        (Register::None, index) => index.size() as u32,
        (base, _) => base.size() as u32,
    };
    op.address_mask = match bytes {
        2 => 0xFFFF,
        4 => 0xFFFF_FFFF,
        _ => u64::MAX,
    };
}

fn address_slot(register: Register) -> u8 {
    match register {
        Register::None => ZERO,
        Register::RIP | Register::EIP => RIP,
        other => register_number(other),
    }
}

fn string_address_mask(kind: OpKind) -> Option<u64> {
    match kind {
        OpKind::MemorySegSI | OpKind::MemorySegDI | OpKind::MemoryESDI => Some(0xFFFF),
        OpKind::MemorySegESI | OpKind::MemorySegEDI | OpKind::MemoryESEDI => Some(0xFFFF_FFFF),
        OpKind::MemorySegRSI | OpKind::MemorySegRDI | OpKind::MemoryESRDI => Some(u64::MAX),
        _ => None,
    }
}

fn register_number(register: Register) -> u8 {
    match register {
        Register::AH => HIGH_BYTE,
        Register::CH => HIGH_BYTE | 1,
        Register::DH => HIGH_BYTE | 2,
        Register::BH => HIGH_BYTE | 3,
        // The decoder counts AH to BH between BL and SPL.
        byte if byte.is_gpr8() && byte.number() >= 8 => byte.number() as u8 - 4,
        other => other.number() as u8,
    }
}

/// The segment of the memory operand. 64-bit code ignores the prefixes of ES, CS, SS and DS, which
/// would decide between #SS and #GP.
fn memory_segment(instruction: &Instruction) -> Register {
    let prefix = instruction.segment_prefix();
    let ignored = matches!(prefix, Register::ES | Register::CS | Register::SS | Register::DS);
    if !ignored || instruction.code_size() != CodeSize::Code64 {
        return instruction.memory_segment();
    }
    match instruction.memory_base() {
        Register::RSP | Register::RBP | Register::ESP | Register::EBP => Register::SS,
        _ => Register::DS,
    }
}

fn segment_number(register: Register) -> u8 {
    register.number() as u8
}

/// Bytes of an operand: of its register, or of the memory operand.
pub(crate) fn operand_size(instruction: &Instruction, number: u32) -> u8 {
    if number >= instruction.op_count() {
        return 0;
    }
    match instruction.op_kind(number) {
        OpKind::Register => instruction.op_register(number).size() as u8,
        kind if kind == OpKind::Memory || string_address_mask(kind).is_some() => {
            instruction.memory_size().size() as u8
        }
        _ => 0,
    }
}

/// Whether the next instruction must be looked up anew: control flow, or a change of what
/// decoding or translation depends on.
fn ends_block(instruction: &Instruction) -> bool {
    if instruction.flow_control() != FlowControl::Next {
        return true;
    }
    match instruction.mnemonic() {
        Mnemonic::Mov | Mnemonic::Pop => {
            matches!(
                instruction.code(),
                Code::Mov_Sreg_rm16
                    | Code::Mov_Sreg_r32m16
                    | Code::Mov_Sreg_r64m16
                    | Code::Popw_SS
                    | Code::Popd_SS
            ) || (instruction.op0_kind() == OpKind::Register
                && (instruction.op0_register().is_cr() || instruction.op0_register().is_dr()))
        }
        Mnemonic::Sti
        | Mnemonic::Popf
        | Mnemonic::Popfd
        | Mnemonic::Popfq
        | Mnemonic::Hlt
        | Mnemonic::Lss
        | Mnemonic::Lmsw
        | Mnemonic::Clts
        | Mnemonic::Wrmsr
        | Mnemonic::Invlpg
        | Mnemonic::Invpcid
        | Mnemonic::Invd
        | Mnemonic::Wbinvd
        | Mnemonic::Wbnoinvd
        | Mnemonic::Cpuid
        | Mnemonic::Swapgs => true,
        _ => false,
    }
}
