//! What Python calls and what libfuse calls: the C face of the door.
//!
//! Pointers are checked by their makers: a gate or vCPU handed in is one that `_new` returned and
//! that `_free` has not taken. A panic ends here with an EIO for the client.
#![allow(unsafe_code, reason = "the boundary with C")]

use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::fuse::{self, Functions, IoctlFn, Request};
use crate::gate::Gate;
use crate::ioctls::{KVM_RUN, KVMSHIM_ECHO};
use crate::run_area::RunArea;
use crate::vcpu::{SyncFn, Vcpu};

/// Gives the door libfuse's functions. Called once, before the first session.
///
/// # Safety
/// `functions` points to `struct kvmshim_fuse`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_door_init(functions: *const Functions) {
    // SAFETY: as the caller promises.
    fuse::set_functions(unsafe { *functions });
}

/// A gate for one client process.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_gate_new() -> *const Gate {
    Arc::into_raw(Arc::new(Gate::default()))
}

/// Lets go of a gate; vCPUs made with it keep it.
///
/// # Safety
/// `gate` is live and not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_free(gate: *const Gate) {
    // SAFETY: `gate` came from `Arc::into_raw` and its reference is given back once.
    drop(unsafe { Arc::from_raw(gate) });
}

/// Thread `tid` waits in a request from now on.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_enter(gate: *const Gate, tid: u32) {
    // SAFETY: as the caller promises.
    unsafe { &*gate }.enter(tid);
}

/// Waits until the gate is open; then thread `tid` may be answered.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_leave(gate: *const Gate, tid: u32) {
    // SAFETY: as the caller promises.
    unsafe { &*gate }.leave(tid);
}

/// Thread `tid` is about to be stopped rather than answered.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_withdraw(gate: *const Gate, tid: u32) {
    // SAFETY: as the caller promises.
    unsafe { &*gate }.withdraw(tid);
}

/// Nobody is answered until the gate is opened.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_close(gate: *const Gate) {
    // SAFETY: as the caller promises.
    unsafe { &*gate }.close();
}

/// Undoes one close.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_open(gate: *const Gate) {
    // SAFETY: as the caller promises.
    unsafe { &*gate }.open();
}

/// Writes up to `capacity` threads that wait in requests; returns how many there are.
///
/// # Safety
/// `gate` is live; `tids` has room for `capacity` numbers.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_gate_inside(
    gate: *const Gate,
    tids: *mut u32,
    capacity: usize,
) -> usize {
    // SAFETY: as the caller promises.
    let inside = unsafe { &*gate }.inside();
    // SAFETY: as the caller promises; no more than `capacity` are written.
    unsafe { std::ptr::copy_nonoverlapping(inside.as_ptr(), tids, inside.len().min(capacity)) };
    inside.len()
}

/// A vCPU's part of the door; null when its area cannot be mapped.
///
/// `memfd` is the area (three pages), `rest` answers every ioctl but KVM_RUN, `sync` exchanges the
/// registers in the area, `process` is the only thread group that may call.
///
/// # Safety
/// `gate` is live; `memfd` is an open descriptor for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_new(
    vsid: u16,
    memfd: c_int,
    rest: IoctlFn,
    sync: SyncFn,
    gate: *const Gate,
    process: u32,
) -> *mut Vcpu {
    // SAFETY: as the caller promises.
    let Ok(area) = RunArea::map(unsafe { BorrowedFd::borrow_raw(memfd) }) else {
        return std::ptr::null_mut();
    };
    // SAFETY: `gate` came from `Arc::into_raw` and is live, so one more reference can be taken.
    let gate = unsafe {
        Arc::increment_strong_count(gate);
        Arc::from_raw(gate)
    };
    Box::into_raw(Box::new(Vcpu::new(vsid, area, rest, sync, gate, process)))
}

/// KVM_SET_SIGNAL_MASK: `mask` is what KVM_RUN blocks. False: there is no thread for it.
///
/// # Safety
/// `vcpu` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_set_signal_mask(vcpu: *mut Vcpu, mask: u64) -> bool {
    // SAFETY: as the caller promises; the vCPU is shared by all its requests.
    let vcpu = unsafe { &*vcpu.cast_const() };
    vcpu.signals.set_mask(mask).is_ok()
}

/// Ends a vCPU's part of the door.
///
/// # Safety
/// `vcpu` is live, its session has ended, and it is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_free(vcpu: *mut Vcpu) {
    // SAFETY: `vcpu` came from `Box::into_raw` and is given back once.
    drop(unsafe { Box::from_raw(vcpu) });
}

/// The ioctl slot of a vCPU's session: keeps KVM_RUN, passes the rest on in its turn.
///
/// # Safety
/// Called by libfuse, in a session whose userdata is the [`Vcpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_ioctl(
    req: Request,
    ino: u64,
    cmd: c_uint,
    arg: *mut c_void,
    fi: *mut c_void,
    flags: c_uint,
    in_buf: *const c_void,
    in_bufsz: usize,
    out_bufsz: usize,
) {
    // SAFETY: the userdata of a vCPU's session is its vCPU, which outlives the session.
    let vcpu = unsafe { &*fuse::userdata(req).cast_const().cast::<Vcpu>() };
    if cmd == KVMSHIM_ECHO {
        // SAFETY: the request is live until this reply.
        return unsafe { fuse::reply(req, 0) };
    }
    if cmd != KVM_RUN {
        return vcpu.in_turn(|| {
            // SAFETY: libfuse's own arguments, passed on once; `rest` replies.
            unsafe { (vcpu.rest)(req, ino, cmd, arg, fi, flags, in_buf, in_bufsz, out_bufsz) }
        });
    }
    // SAFETY: the request is live.
    let tid = unsafe { fuse::thread_of(req) };
    vcpu.gate.enter(tid);
    // SAFETY: the request is live until the reply below.
    let run = || unsafe { vcpu.run(req, arg.addr(), tid) };
    let value = catch_unwind(AssertUnwindSafe(run)).unwrap_or(-libc::EIO);
    vcpu.gate.leave(tid);
    // SAFETY: the request is live until this reply.
    unsafe { fuse::reply(req, value) }
}
