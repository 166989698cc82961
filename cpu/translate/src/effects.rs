//! What an instruction does to the status flags, and how it is translated.

use cpu_interp::op::Op;
use cpu_interp::{Features, HostUse};
use cpu_mmu::is_canonical;
use iced_x86::{
    Code, CpuidFeature, FlowControl, Instruction, InstructionInfoFactory, InstructionInfoOptions,
    Mnemonic, OpAccess, OpKind, RflagsBits,
};

use crate::far_bit::{FarBit, far_bit, is_far};
use crate::group::Member;
use crate::reading::{Reading, reading};
use crate::registers::Registers;
use crate::string::{Moves, moves};
use crate::system::{System, system};

/// The status flags, as iced names them.
pub(crate) const STATUS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// How an instruction gets along with the status flags.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flags {
    /// It has nothing to do with them.
    Ignored,
    /// It writes all of them.
    Replaced,
    /// It writes all of them but CF, or uses CF alone; whether it writes any.
    Carry { written: bool },
    /// It reads some, or leaves some as they were; whether it writes any.
    Used { written: bool },
}

/// How an instruction is translated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Kind {
    /// Tier 0 executes it.
    Callout,
    /// It does nothing.
    Nothing,
    /// It is copied, with other registers and another address.
    Copied,
    /// FLDCW.
    LoadControl,
    /// It may load from memory, and does nothing.
    Look,
    Lea,
    Push,
    Pop,
    Leave,
    /// DIV of 32 or 64 bits.
    Divide,
    /// A string instruction that is not repeated.
    String(Moves),
    System(System),
    /// Of a word of the processor.
    Read(Reading),
    FarBit(FarBit),
    Call,
    Return,
    Jump,
    JumpIf,
}

/// An instruction on its way.
pub(crate) struct Item {
    pub instruction: Instruction,
    pub op: Op,
    /// Offset of its bytes in the block.
    pub at: usize,
    pub last: bool,
    pub kind: Kind,
    pub flags: Flags,
    /// Nobody sees the flags behind it, so what it leaves as it was does not matter.
    pub unseen: bool,
    /// It ends in another page than it begins in; it is alone in its block.
    pub crosses: bool,
    /// It follows STI.
    pub shadowed: bool,
    /// Its memory operand is stored to.
    pub writes_memory: bool,
    /// The registers of vectors or x87 that it uses.
    pub used: Option<HostUse>,
    /// What is to be loaded behind it, see [`crate::registers`].
    pub loaded: Registers,
    /// What it does to x87 is noted after the next instruction, too.
    pub noted_later: bool,
    /// Its access shares a look, see [`crate::group`].
    pub member: Option<Member>,
}

impl Item {
    /// It has a memory operand that it accesses.
    pub(crate) fn has_memory(&self) -> bool {
        let accesses = !matches!(self.kind, Kind::Lea | Kind::Nothing);
        accesses
            && (0..self.instruction.op_count())
                .any(|n| self.instruction.op_kind(n) == OpKind::Memory)
    }

    /// Its access to memory is atomic.
    pub(crate) fn is_locked(&self) -> bool {
        self.instruction.has_lock_prefix() || self.instruction.mnemonic() == Mnemonic::Xchg
    }

    /// The flags have to be in the host's RFLAGS before it, or CF.
    pub(crate) fn needs_flags(&self) -> bool {
        matches!(self.flags, Flags::Used { .. } | Flags::Carry { .. }) && !self.unseen
    }

    /// Flags have to be in the frame before it: it looks at the TLB, or calls out.
    pub(crate) fn clobbers_flags(&self) -> bool {
        match self.kind {
            Kind::Callout
            | Kind::Divide
            | Kind::String(_)
            | Kind::System(_)
            | Kind::Read(_)
            | Kind::FarBit(_)
            | Kind::Push
            | Kind::Pop
            | Kind::Leave
            | Kind::Call
            | Kind::Return => true,
            _ if self.crosses => true,
            Kind::Jump => self.instruction.op0_kind() != OpKind::NearBranch64,
            _ => self.has_memory(),
        }
    }
}

/// Sorts an instruction.
pub(crate) fn item(
    infos: &mut InstructionInfoFactory,
    instruction: Instruction,
    op: Op,
    last: bool,
    at: usize,
    features: &Features,
) -> Item {
    let mut item = Item {
        kind: kind(&instruction, &op),
        flags: flags(&instruction),
        unseen: false,
        crosses: false,
        shadowed: false,
        writes_memory: false,
        used: None,
        loaded: Registers::NONE,
        noted_later: false,
        member: None,
        instruction,
        op,
        at,
        last,
    };
    if item.kind == Kind::Callout
        && op.address_mask == u64::MAX
        && let Some(used) = HostUse::of(&item.instruction, &op)
    {
        let control = item.instruction.mnemonic() == Mnemonic::Fldcw;
        item.kind = if control { Kind::LoadControl } else { Kind::Copied };
        item.used = Some(used);
    }
    if !features.have(&item.instruction) {
        item.kind = Kind::Callout;
    }
    if item.kind == Kind::Copied && item.has_memory() {
        match memory_access(infos, &item.instruction) {
            Some(writes) => item.writes_memory = writes,
            None => item.kind = Kind::Callout,
        }
    }
    item
}

/// Whether the memory operand is written; None if it is not accessed once, in whole.
fn memory_access(infos: &mut InstructionInfoFactory, instruction: &Instruction) -> Option<bool> {
    let info = infos.info_options(instruction, InstructionInfoOptions::NONE);
    let [used] = info.used_memory() else { return None };
    match used.access() {
        OpAccess::Read | OpAccess::CondRead => Some(false),
        OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite => {
            Some(true)
        }
        _ => None,
    }
}

fn flags(instruction: &Instruction) -> Flags {
    let reads = instruction.rflags_read() & STATUS;
    let changed = instruction.rflags_modified() & STATUS;
    let undefined = instruction.rflags_undefined() & STATUS;
    let mut replaced = changed & !undefined;
    if is_logic(instruction.mnemonic()) || shifts_by_constant(instruction) {
        // Processors leave a value of their own in what is undefined, not the one before.
        replaced = changed;
    }
    if shifts_by_variable(instruction) {
        // A rotation all the way round writes flags on some processors.
        return Flags::Used { written: true };
    }
    let written = changed != 0;
    match (reads, replaced) {
        (0, 0) if changed == 0 => Flags::Ignored,
        (0, STATUS) => Flags::Replaced,
        (0 | RflagsBits::CF, all) if all | RflagsBits::CF == STATUS => Flags::Carry { written },
        (RflagsBits::CF, 0) if changed == 0 => Flags::Carry { written },
        _ => Flags::Used { written },
    }
}

fn is_logic(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::And | Mnemonic::Or | Mnemonic::Xor | Mnemonic::Test)
}

fn is_shift(mnemonic: Mnemonic) -> bool {
    matches!(mnemonic, Mnemonic::Shl | Mnemonic::Sal | Mnemonic::Shr | Mnemonic::Sar)
}

fn is_rotate(mnemonic: Mnemonic) -> bool {
    use Mnemonic as M;
    matches!(mnemonic, M::Rol | M::Ror | M::Rcl | M::Rcr | M::Shld | M::Shrd)
}

fn shifts_by_constant(instruction: &Instruction) -> bool {
    let mask = if instruction.op_count() > 0 && operand_len(instruction) == 8 { 63 } else { 31 };
    is_shift(instruction.mnemonic())
        && instruction.op1_kind() == OpKind::Immediate8
        && instruction.immediate8() & mask != 0
}

/// A count of zero leaves all flags as they are.
pub(crate) fn shifts_by_variable(instruction: &Instruction) -> bool {
    let shift = is_shift(instruction.mnemonic()) || is_rotate(instruction.mnemonic());
    shift && !shifts_by_constant(instruction)
}

/// Bytes of the first operand.
pub(crate) fn operand_len(instruction: &Instruction) -> usize {
    match instruction.op0_kind() {
        OpKind::Register => instruction.op0_register().size(),
        _ => instruction.memory_size().size(),
    }
}

fn kind(instruction: &Instruction, op: &Op) -> Kind {
    if does_nothing(instruction) {
        return Kind::Nothing;
    }
    if op.address_mask != u64::MAX {
        return Kind::Callout;
    }
    if instruction.flow_control() != FlowControl::Next {
        return branch(instruction);
    }
    if let Some(system) = system(instruction) {
        return Kind::System(system);
    }
    if let Some(reading) = reading(instruction) {
        return Kind::Read(reading);
    }
    if let Some(bit) = far_bit(instruction) {
        return Kind::FarBit(bit);
    }
    match instruction.code() {
        Code::Push_r64 | Code::Push_rm64 | Code::Pushq_imm8 | Code::Pushq_imm32 => Kind::Push,
        Code::Pop_r64 => Kind::Pop,
        Code::Pop_rm64 if instruction.op0_kind() == OpKind::Register => Kind::Pop,
        Code::Leaveq => Kind::Leave,
        Code::Lea_r64_m | Code::Lea_r32_m => Kind::Lea,
        Code::Clflush_m8 | Code::Clflushopt_m8 | Code::Clwb_m8 => Kind::Look,
        Code::Div_rm32 | Code::Div_rm64 => Kind::Divide,
        _ if instruction.is_string_instruction() => {
            moves(instruction).map_or(Kind::Callout, Kind::String)
        }
        _ if is_copied(instruction) || is_bit_operation(instruction) => Kind::Copied,
        _ => Kind::Callout,
    }
}

/// Whatever its operand's address.
fn does_nothing(instruction: &Instruction) -> bool {
    match instruction.code() {
        Code::Nopw | Code::Nopd | Code::Nopq | Code::Endbr64 => true,
        Code::Nop_rm16 | Code::Nop_rm32 | Code::Nop_rm64 => true,
        // With REX.B it is XCHG.
        Code::Pause => instruction.len() == 2,
        // Loads and stores are made in program order, so these two have nothing to order.
        Code::Lfence | Code::Sfence => true,
        _ => instruction.mnemonic() == Mnemonic::Reservednop,
    }
}

fn branch(instruction: &Instruction) -> Kind {
    let near = instruction.op_count() > 0 && instruction.op0_kind() == OpKind::NearBranch64;
    if near && !is_canonical(instruction.near_branch64(), false) {
        return Kind::Callout;
    }
    match instruction.code() {
        Code::Retnq | Code::Retnq_imm16 => Kind::Return,
        Code::Call_rel32_64 | Code::Call_rm64 => Kind::Call,
        Code::Jmp_rel8_64 | Code::Jmp_rel32_64 | Code::Jmp_rm64 => Kind::Jump,
        _ if near && instruction.is_jcc_short_or_near() => Kind::JumpIf,
        _ => Kind::Callout,
    }
}

/// Instructions that use general registers, memory and the status flags, raise nothing of their own
/// and mean the same to the host.
fn is_copied(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    let known = matches!(
        instruction.mnemonic(),
        M::Mov
            | M::Movzx
            | M::Movsx
            | M::Movsxd
            | M::Add
            | M::Adc
            | M::Sub
            | M::Sbb
            | M::Cmp
            | M::And
            | M::Or
            | M::Xor
            | M::Test
            | M::Inc
            | M::Dec
            | M::Neg
            | M::Not
            | M::Shl
            | M::Sal
            | M::Shr
            | M::Sar
            | M::Rol
            | M::Ror
            | M::Rcl
            | M::Rcr
            | M::Shld
            | M::Shrd
            | M::Mul
            | M::Imul
            | M::Bswap
            | M::Xchg
            | M::Xadd
            | M::Cmpxchg
            | M::Cmpxchg8b
            | M::Cmpxchg16b
            | M::Cbw
            | M::Cwde
            | M::Cdqe
            | M::Cwd
            | M::Cdq
            | M::Cqo
            | M::Bt
            | M::Bts
            | M::Btr
            | M::Btc
            | M::Clc
            | M::Stc
            | M::Cmc
            | M::Lahf
            | M::Sahf
            | M::Movnti
            | M::Mfence
    ) || is_conditional(instruction);
    let registers = |number| {
        instruction.op_kind(number) != OpKind::Register || instruction.op_register(number).is_gpr()
    };
    let wide = instruction.mnemonic() != M::Cmpxchg16b || is_x86_feature_detected!("cmpxchg16b");
    known && wide && !is_far(instruction) && (0..instruction.op_count()).all(registers)
}

/// As [`is_copied`], if the host has it; it may have less than the guest was told.
fn is_bit_operation(instruction: &Instruction) -> bool {
    use Mnemonic as M;
    match instruction.mnemonic() {
        // With REPE it is another one to hosts that have that.
        M::Bsf | M::Bsr => !instruction.has_rep_prefix() && !instruction.has_repne_prefix(),
        M::Popcnt => is_x86_feature_detected!("popcnt"),
        M::Lzcnt => is_x86_feature_detected!("lzcnt"),
        M::Tzcnt | M::Andn | M::Bextr | M::Blsi | M::Blsmsk | M::Blsr => {
            instruction.op_count() > 0 && is_x86_feature_detected!("bmi1") && !is_tbm(instruction)
        }
        M::Bzhi | M::Mulx | M::Pdep | M::Pext | M::Rorx | M::Sarx | M::Shlx | M::Shrx => {
            is_x86_feature_detected!("bmi2")
        }
        _ => false,
    }
}

/// BEXTR has a form of AMD's own.
fn is_tbm(instruction: &Instruction) -> bool {
    instruction.cpuid_features().contains(&CpuidFeature::TBM)
}

/// CMOVcc and SETcc.
fn is_conditional(instruction: &Instruction) -> bool {
    instruction.condition_code() != iced_x86::ConditionCode::None
        && instruction.flow_control() == FlowControl::Next
        && instruction.op_count() > 0
        && instruction.op_count() < 3
}
