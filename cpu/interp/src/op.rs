//! A decoded instruction, digested for execution.

use crate::cpu::Cpu;
use crate::stop::Done;

/// Executes one decoded instruction. RIP already points behind it.
pub type Handler = fn(&mut Cpu, &Op) -> Done;

/// Operand place in [`Op::dst`], [`Op::src`]: the memory operand. Smaller values are registers.
pub const MEM: u8 = 0x40;
/// Operand place: the immediate.
pub const IMM: u8 = 0x41;
/// Operand place: there is none.
pub const NONE: u8 = 0x42;

/// REP, REPE or REPNE prefix of a string instruction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rep {
    /// None: one iteration.
    Once,
    /// F3.
    WhileEqual,
    /// F2.
    WhileNotEqual,
}

/// One instruction.
#[derive(Clone, Copy)]
pub struct Op {
    /// What executes it.
    pub run: Handler,
    /// Immediate (sign-extended as the instruction wants it), or the branch distance from the
    /// next instruction.
    pub imm: u64,
    /// Displacement of the memory operand; from the next instruction if the base is RIP.
    pub disp: u64,
    /// Mask of the address size.
    pub address_mask: u64,
    /// Slot of the base register.
    pub base: u8,
    /// Slot of the index register.
    pub index: u8,
    /// Log2 of the scale.
    pub scale: u8,
    /// Segment register number of the memory operand.
    pub seg: u8,
    /// First operand.
    pub dst: u8,
    /// Second operand.
    pub src: u8,
    /// Third operand (a register), or a second immediate.
    pub third: u8,
    /// Operand size in bytes where the handler is not generic over it.
    pub size: u8,
    /// FOP, of an x87 instruction.
    pub fop: u16,
    /// Length in bytes.
    pub len: u8,
    /// LOCK prefix (or XCHG with memory).
    pub lock: bool,
    /// Repeat prefix.
    pub rep: Rep,
}

impl Op {
    /// Whether the first operand is in memory.
    #[inline(always)]
    pub fn dst_is_memory(&self) -> bool {
        self.dst == MEM
    }
}
