//! mv_exit_unknown_t: the guest did what this processor cannot do.

use crate::abi::run::{MV_EXIT_UNKNOWN_EMULATION, mv_exit_reason_t_unknown, mv_exit_unknown_t};
use crate::abi::status::MV_STATUS_EXIT_UNKNOWN;
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports an instruction that is not emulated: the bytes at RIP, of which `len` were fetched.
pub fn emulation(page: &SharedPage, bytes: [u8; 15], len: u8) -> Outcome {
    let mut padded = [0; 16];
    padded[..15].copy_from_slice(&bytes);
    let words = u128::from_le_bytes(padded);
    let layout = mv_exit_unknown_t {
        info0: MV_EXIT_UNKNOWN_EMULATION,
        info1: len.into(),
        info2: words as u64,
        info3: (words >> 64) as u64,
    };
    page.write(super::OFFSET, &layout);
    Outcome::Exit { reason: mv_exit_reason_t_unknown, status: MV_STATUS_EXIT_UNKNOWN }
}
