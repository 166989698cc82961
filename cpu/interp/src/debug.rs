//! Debug exceptions: SDM volume 3, "Debug, Branch Profile, TSC, and Other Features".
//!
//! Traps are collected in [`crate::state::Arch::pending_debug`] and delivered as one #DB at the end
//! of the instruction, or after the next one if this one loaded SS.

use cpu_defs::{Exception, vector};

use crate::cpu::{Cpu, Request};
use crate::state::Shadow;
use crate::stop::Done;

impl Cpu {
    /// Has #DB raised at the end of the instruction, with these bits of DR6.
    pub(crate) fn raise_debug_trap(&mut self, dr6: u64) {
        self.arch.pending_debug |= dr6;
        self.attention = true;
    }

    /// Delivers #DB if a trap waits. It ends a HLT.
    ///
    /// # Errors
    /// As [`Self::deliver_exception`].
    pub fn deliver_debug_traps(&mut self) -> Done {
        if self.arch.pending_debug == 0 || self.arch.shadow == Shadow::MovSs {
            return Ok(());
        }
        if self.request == Some(Request::Hlt) {
            self.request = None;
        }
        self.arch.dr6 |= std::mem::take(&mut self.arch.pending_debug);
        self.deliver_exception(Exception::plain(vector::DB))
    }
}
