//! What a guest of Hyper-V asks of its client.
//!
//! `Documentation/virt/kvm/api.rst`, KVM_EXIT_HYPERV, KVM_EXIT_SYSTEM_EVENT.

use kvm_bindings::{
    KVM_EXIT_HYPERV, KVM_EXIT_HYPERV_HCALL, KVM_EXIT_HYPERV_SYNDBG, KVM_EXIT_HYPERV_SYNIC,
    KVM_EXIT_SYSTEM_EVENT, KVM_SYSTEM_EVENT_CRASH, KVM_SYSTEM_EVENT_RESET, kvm_run__bindgen_ty_1,
};
use microv::abi::run::{
    MV_EXIT_HYPERV_CRASH, MV_EXIT_HYPERV_DEBUG, MV_EXIT_HYPERV_RESET, MV_EXIT_HYPERV_SIGNAL,
    MV_EXIT_HYPERV_SYNIC, MV_HYPERV_MSR_DEBUG_CONTROL, mv_exit_hyperv_t,
};

use crate::exit::{Outcome, Pending};
use crate::run_area::RunArea;

/// HV_STATUS_SUCCESS.
const SUCCESS: u64 = 0;

/// Writes the exit into `area`. `signals` signals a connection's eventfd; true if it has one.
pub fn exit(exit: &mv_exit_hyperv_t, area: &RunArea, signals: impl FnOnce(u64) -> bool) -> Outcome {
    match exit.kind {
        MV_EXIT_HYPERV_SIGNAL if signals(exit.data[3]) => Outcome::Answered(SUCCESS),
        MV_EXIT_HYPERV_CRASH => system_event(KVM_SYSTEM_EVENT_CRASH, area),
        MV_EXIT_HYPERV_RESET => system_event(KVM_SYSTEM_EVENT_RESET, area),
        MV_EXIT_HYPERV_DEBUG => debug(exit.data, area),
        MV_EXIT_HYPERV_SYNIC => synic(exit.data, area),
        _ => call(exit.data, area),
    }
}

fn system_event(kind: u32, area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.system_event.type_ = kind;
    details.system_event.ndata = 0;
    area.set_exit(KVM_EXIT_SYSTEM_EVENT, details);
    Outcome::Client(Pending::Nothing)
}

fn debug([msr, control, status, send, receive, pending]: [u64; 6], area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.hyperv.type_ = KVM_EXIT_HYPERV_SYNDBG;
    details.hyperv.u.syndbg.msr = msr as u32;
    details.hyperv.u.syndbg.control = control;
    details.hyperv.u.syndbg.status = status;
    details.hyperv.u.syndbg.send_page = send;
    details.hyperv.u.syndbg.recv_page = receive;
    details.hyperv.u.syndbg.pending_page = pending;
    area.set_exit(KVM_EXIT_HYPERV, details);
    let has_status = msr == MV_HYPERV_MSR_DEBUG_CONTROL;
    Outcome::Client(if has_status { Pending::DebugStatus } else { Pending::Nothing })
}

fn synic([msr, control, event_page, message_page, ..]: [u64; 6], area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.hyperv.type_ = KVM_EXIT_HYPERV_SYNIC;
    details.hyperv.u.synic.msr = msr as u32;
    details.hyperv.u.synic.control = control;
    details.hyperv.u.synic.evt_page = event_page;
    details.hyperv.u.synic.msg_page = message_page;
    area.set_exit(KVM_EXIT_HYPERV, details);
    Outcome::Client(Pending::Nothing)
}

fn call([input, first, second, ..]: [u64; 6], area: &RunArea) -> Outcome {
    let mut details = kvm_run__bindgen_ty_1::default();
    details.hyperv.type_ = KVM_EXIT_HYPERV_HCALL;
    details.hyperv.u.hcall.input = input;
    details.hyperv.u.hcall.params = [first, second];
    area.set_exit(KVM_EXIT_HYPERV, details);
    Outcome::Client(Pending::HypervAnswer)
}
