//! mv_exit_mmio_t: the guest accesses guest-physical memory that is not mapped, or not for this.

use cpu_engine::MmioExit;

use crate::abi::run::{
    MV_EXIT_MMIO_READ, MV_EXIT_MMIO_WRITE, mv_exit_mmio_t, mv_exit_reason_t_mmio,
};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports the access. For a read the next run brings the data.
pub fn report(page: &SharedPage, exit: &MmioExit) -> Outcome {
    let layout = mv_exit_mmio_t {
        gpa: exit.gpa,
        flags: if exit.write { MV_EXIT_MMIO_WRITE } else { MV_EXIT_MMIO_READ },
        data: if exit.write { u64::from_le_bytes(exit.data) } else { 0 },
        reserved0: 0,
        reserved1: 0,
        memory_access_size: exit.len.into(),
    };
    page.write(super::OFFSET, &layout);
    super::reason(mv_exit_reason_t_mmio)
}
