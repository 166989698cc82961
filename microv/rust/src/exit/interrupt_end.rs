//! mv_exit_interrupt_end_t: a level interrupt ended for which the root's I/O APIC waits.

use crate::abi::run::{mv_exit_interrupt_end_t, mv_exit_reason_t_interrupt_end};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the vector.
pub fn report(page: &SharedPage, vector: u8) -> Outcome {
    page.write(super::OFFSET, &mv_exit_interrupt_end_t { vector: vector.into() });
    super::reason(mv_exit_reason_t_interrupt_end)
}
