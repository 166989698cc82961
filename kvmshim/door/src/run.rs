//! mv_vs_op_run as the door calls it: what goes in on the shared page, what comes out.

use std::mem::offset_of;

use microv::abi::hypercall::MV_VS_OP_VAL;
use microv::abi::index::{MV_VS_OP_KICK_IDX_VAL, MV_VS_OP_RUN_IDX_VAL, MV_VS_OP_WAIT_WITH_IDX_VAL};
use microv::abi::list::mv_rdl_entry_t;
use microv::abi::reg::mv_reg_t_cr8;
use microv::abi::run::{MV_RUN_RETURN_EXIT_OFFSET, mv_run_return_t, mv_run_t};
use microv::abi::status::{
    MV_STATUS_EXIT_FAILURE, MV_STATUS_EXIT_UNKNOWN, MV_STATUS_RETRY_CONTINUATION, MV_STATUS_SUCCESS,
};

use crate::root_page::{RootPage, call, with_page};

/// What a run starts with.
pub struct Entry<'a> {
    /// CR8, written before the guest runs; None where a local APIC has it.
    pub cr8: Option<u64>,
    /// An MSR that is written before the guest runs, and its value.
    pub msr: Option<(u32, u64)>,
    /// `MV_RUN_FLAG_*`.
    pub flags: u64,
    /// What the pending port or MMIO read gets.
    pub data: &'a [u8],
}

/// The call failed: the engine refused an input.
#[derive(Debug)]
pub struct Refused;

/// Runs `vsid` until it leaves, and hands the exit to `read` while the page still holds it.
///
/// # Errors
/// [`Refused`] when CR8 has reserved bits or the VS is not there.
pub fn run<R>(
    vsid: u16,
    entry: &Entry<'_>,
    read: impl FnOnce(u64, &mv_run_return_t, &ExitPage<'_>) -> R,
) -> Result<R, Refused> {
    with_page(|page| {
        loop {
            fill(page, entry);
            let (status, reason) = call(MV_VS_OP_VAL, MV_VS_OP_RUN_IDX_VAL, vsid.into(), 0);
            match status {
                MV_STATUS_SUCCESS | MV_STATUS_EXIT_FAILURE | MV_STATUS_EXIT_UNKNOWN => {
                    let head = page.get::<mv_run_return_t>(0);
                    return Ok(read(reason, &head, &ExitPage(page)));
                }
                MV_STATUS_RETRY_CONTINUATION => {}
                _ => return Err(Refused),
            }
        }
    })
}

/// Makes a running VS leave with `mv_exit_reason_t_interrupt`; the next run, if it is not running.
pub fn kick(vsid: u16) {
    // A VS that is gone has nothing to leave.
    let _ = call(MV_VS_OP_VAL, MV_VS_OP_KICK_IDX_VAL, vsid.into(), 0);
}

/// The guest waits when this thread of the host waits for a CPU.
pub fn wait_with(vsid: u16, tid: u32) {
    // A VS that is gone waits for nothing.
    let _ = call(MV_VS_OP_VAL, MV_VS_OP_WAIT_WITH_IDX_VAL, vsid.into(), tid.into());
}

/// The details of an exit, on the shared page.
pub struct ExitPage<'a>(&'a RootPage);

impl ExitPage<'_> {
    /// The details as the structure of the exit reason.
    pub fn details<T: zerocopy::FromBytes>(&self) -> T {
        self.0.get(MV_RUN_RETURN_EXIT_OFFSET as usize)
    }
}

fn fill(page: &RootPage, entry: &Entry<'_>) {
    page.put(offset_of!(mv_run_t, num_reg_entries), &u64::from(entry.cr8.is_some()));
    let cr8 = mv_rdl_entry_t { reg: mv_reg_t_cr8, val: entry.cr8.unwrap_or(0) };
    page.put(offset_of!(mv_run_t, reg_entries), &cr8);
    page.put(offset_of!(mv_run_t, num_msr_entries), &u64::from(entry.msr.is_some()));
    if let Some((msr, val)) = entry.msr {
        page.put(offset_of!(mv_run_t, msr_entries), &mv_rdl_entry_t { reg: msr.into(), val });
    }
    page.put(offset_of!(mv_run_t, num_iomem), &(entry.data.len() as u64));
    page.put(offset_of!(mv_run_t, flags), &entry.flags);
    page.put_bytes(offset_of!(mv_run_t, iomem), entry.data);
}
