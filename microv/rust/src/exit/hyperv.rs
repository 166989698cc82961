//! mv_exit_hyperv_t: what the guest wants of the root by the interface of Hyper-V.

use crate::abi::run::{
    MV_EXIT_HYPERV_CALL, MV_EXIT_HYPERV_CRASH, MV_EXIT_HYPERV_DEBUG, MV_EXIT_HYPERV_RESET,
    MV_EXIT_HYPERV_SIGNAL, MV_EXIT_HYPERV_SYNIC, mv_exit_hyperv_t, mv_exit_reason_t_hyperv,
};
use crate::hyperv::{CallToRoot, DebugWish, SynicWish, Wish};
use crate::outcome::Outcome;
use crate::page::SharedPage;

/// Reports a wish.
pub fn wish(page: &SharedPage, wish: Wish) -> Outcome {
    match wish {
        Wish::Crash => report(page, MV_EXIT_HYPERV_CRASH, [0; 6]),
        Wish::Reset => report(page, MV_EXIT_HYPERV_RESET, [0; 6]),
        Wish::Synic(synic) => {
            let SynicWish { msr, control, event_page, message_page } = synic;
            let data = [msr.into(), control, event_page, message_page, 0, 0];
            report(page, MV_EXIT_HYPERV_SYNIC, data)
        }
        Wish::Debug(debug) => {
            let DebugWish { msr, control, status, send_page, receive_page, pending_page } = debug;
            let data = [msr.into(), control, status, send_page, receive_page, pending_page];
            report(page, MV_EXIT_HYPERV_DEBUG, data)
        }
    }
}

/// Reports a hypercall. The next run brings MV_EXIT_HYPERCALL_ANSWER_SIZE bytes.
pub fn call(page: &SharedPage, call: CallToRoot) -> Outcome {
    let CallToRoot { input, params: [first, second], connection, .. } = call;
    match connection {
        None => report(page, MV_EXIT_HYPERV_CALL, [input, first, second, 0, 0, 0]),
        Some(number) => {
            report(page, MV_EXIT_HYPERV_SIGNAL, [input, first, second, number.into(), 0, 0])
        }
    }
}

fn report(page: &SharedPage, kind: u64, data: [u64; 6]) -> Outcome {
    page.write(super::OFFSET, &mv_exit_hyperv_t { kind, data });
    super::reason(mv_exit_reason_t_hyperv)
}
