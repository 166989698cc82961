//! Instructions that the host executes: their snippets, and what memory operand goes with each.

use std::collections::HashMap;

use cpu_host::{Exchange, Outcome, Refusal, Snippet, Snippets};
use iced_x86::Instruction;

use crate::cpu::Cpu;

/// Most instructions before all are dropped.
const MAX_OPS: usize = 1 << 14;

/// Which bytes of a memory operand an instruction touches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Active {
    /// All.
    All,
    /// The elements of `granule` bytes whose bit in a mask register is set.
    Mask { opmask: u8, granule: u8 },
    /// As with `Mask`, but a mask that leaves elements out does not suppress faults.
    Unsuppressed { opmask: u8, granule: u8 },
    /// The operand is repeated to `bits` elements of the mask register: an element is touched if
    /// the bit of any of its copies is set.
    Repeated { opmask: u8, granule: u8, bits: u8 },
    /// As many elements of `granule` bytes as bits are set in a mask register.
    Compressed { opmask: u8, granule: u8 },
    /// The elements of `granule` bytes whose uppermost bit in a vector register is set.
    Signs { vector: u8, granule: u8 },
}

/// An instruction that the host executes; [`crate::op::Op::imm`] is its number.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) struct NativeOp {
    /// The code.
    pub snippet: Snippet,
    /// Bytes of the memory operand.
    pub len: u8,
    /// Low bits of a linear address that must be clear, else #GP(0).
    pub misaligned: u8,
    /// The bytes of the memory operand that it touches.
    pub active: Active,
}

/// All instructions of one processor that the host executes.
pub struct Native {
    snippets: Snippets,
    exchange: Exchange,
    ops: Vec<NativeOp>,
    numbers: HashMap<NativeOp, u32>,
}

impl Native {
    /// None.
    #[must_use]
    pub fn new() -> Self {
        Native {
            snippets: Snippets::new(),
            exchange: Exchange::new(),
            ops: Vec::new(),
            numbers: HashMap::new(),
        }
    }

    /// Another block of instructions may not fit: time to drop the blocks and [`Self::clear`].
    #[must_use]
    pub(crate) fn is_full(&self) -> bool {
        self.snippets.is_full() || self.ops.len() >= MAX_OPS
    }

    /// Forgets every instruction. No block may hold their numbers any more.
    pub(crate) fn clear(&mut self) {
        self.snippets.clear();
        self.ops.clear();
        self.numbers.clear();
    }

    /// The snippet of an instruction.
    pub(crate) fn snippet(&mut self, instruction: &Instruction) -> Result<Snippet, Refusal> {
        self.snippets.make(instruction)
    }

    /// The number of an instruction.
    pub(crate) fn number(&mut self, op: NativeOp) -> u32 {
        let Native { ops, numbers, .. } = self;
        *numbers.entry(op).or_insert_with(|| {
            ops.push(op);
            (ops.len() - 1) as u32
        })
    }

    /// An instruction by number.
    #[inline]
    pub(crate) fn op(&self, number: u64) -> Option<NativeOp> {
        self.ops.get(number as usize).copied()
    }

    /// The place of the memory operand.
    pub(crate) fn memory(&mut self) -> &mut [u8; cpu_host::MEMORY_LEN] {
        &mut self.exchange.memory
    }
}

impl Default for Native {
    fn default() -> Self {
        Self::new()
    }
}

impl Cpu {
    /// Has the host execute a snippet; its memory operand is in [`Native::memory`]. Nothing
    /// changes on a fault but flags in MXCSR.
    pub(crate) fn run_native(&mut self, snippet: &Snippet) -> Outcome {
        let Native { snippets, exchange, .. } = &mut self.native;
        for gpr in snippet.gprs.iter().flatten() {
            let value = self.arch.slots[usize::from(gpr.register & 15)];
            exchange.gpr[usize::from(gpr.cell & 3)] = value;
        }
        if snippet.reads_flags {
            exchange.flags = self.arch.rflags;
        }
        let outcome = snippets.run(snippet, &mut self.fpu, exchange);
        if outcome != Outcome::Done {
            return outcome;
        }
        for gpr in snippet.gprs.iter().flatten().filter(|gpr| gpr.written) {
            let value = exchange.gpr[usize::from(gpr.cell & 3)];
            self.arch.slots[usize::from(gpr.register & 15)] = value;
        }
        if snippet.writes_flags {
            let flags = exchange.flags as u32 & cpu_defs::rflags::STATUS as u32;
            self.set_status(flags);
        }
        outcome
    }
}
