//! One hypercall under way: the registers of its caller and what it may reach.

use crate::object::{Machine, Pp};

/// Registers of a hypercall; mv_regs_t of the C interface.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Regs {
    /// In: signature, flags, opcode, index. Out: mv_status_t.
    pub rax: u64,
    /// In: the handle, in most calls. Out: the answer, where there is one.
    pub r10: u64,
    /// In: REG1.
    pub r11: u64,
    /// In: REG2.
    pub r12: u64,
    /// In: REG3.
    pub r13: u64,
}

/// What an operation works with.
#[derive(Debug)]
pub struct Call<'a> {
    /// All objects.
    pub machine: &'a Machine,
    /// The calling PP.
    pub pp: &'a mut Pp,
    /// Registers on entry.
    pub regs: Regs,
}
