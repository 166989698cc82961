//! What Python and libfuse call for a whole VM: its interrupts, coalesced writes and dirty rings.
#![allow(unsafe_code, reason = "the boundary with C")]

use std::ffi::{c_int, c_uint, c_void};
use std::os::fd::BorrowedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zerocopy::IntoBytes;

use crate::coalesced::RING_BYTES;
use crate::ffi::given;
use crate::fuse::{self, IoctlFn, Request};
use crate::gate::Gate;
use crate::interrupts::{Interrupts, Level};
use crate::ioctls::{KVM_IRQ_LINE, KVM_IRQ_LINE_STATUS, KVM_SIGNAL_MSI};
use crate::ioeventfd::Space;
use crate::shared_pages::SharedPages;
use crate::{pins, vm_door, written};

fn space(port: bool) -> Space {
    if port { Space::Port } else { Space::Memory }
}

/// A VM begins. `page` is a memfd of one page, the ring of its coalesced writes. False: it cannot be
/// mapped.
///
/// # Safety
/// `page` is an open descriptor for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vm_begin(vmid: u16, page: c_int) -> bool {
    // SAFETY: as the caller promises.
    let page = SharedPages::map(unsafe { BorrowedFd::borrow_raw(page) }, 0, RING_BYTES);
    page.is_ok_and(|page| {
        vm_door::begin(vmid, page);
        true
    })
}

/// A VM ends.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_vm_end(vmid: u16) {
    vm_door::forget(vmid);
}

/// Adds a zone of coalesced writes. False: there are too many.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_zone_add(vmid: u16, port: bool, start: u64, bytes: u32) -> bool {
    vm_door::of_vm(vmid).is_some_and(|door| door.coalesced.add(space(port), start, bytes))
}

/// Takes out the zones that hold the whole range.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_zone_remove(vmid: u16, port: bool, start: u64, bytes: u32) {
    if let Some(door) = vm_door::of_vm(vmid) {
        door.coalesced.remove(space(port), start, bytes);
    }
}

/// Says where the slot of a number is, as hypercalls have addresses; with no bytes it is nowhere.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_slot_set(vmid: u16, number: u32, gpa: u64, bytes: u64) {
    if let Some(door) = vm_door::of_vm(vmid) {
        door.rings.set_slot(number, gpa, bytes);
    }
}

/// Frees the harvested entries of the VM's dirty rings and has their pages logged anew; how many.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_rings_reset(vmid: u16) -> u32 {
    vm_door::of_vm(vmid).map_or(0, |door| door.rings.reset(|pages| written::clear(vmid, pages)))
}

/// The native slot of a VM's session. `rest` answers every ioctl that it does not, `process` is the
/// only thread group that may call.
///
/// # Safety
/// `gate` is live.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_interrupts_new(
    vmid: u16,
    process: u32,
    rest: IoctlFn,
    gate: *const Gate,
) -> *mut Interrupts {
    // SAFETY: `gate` came from `Arc::into_raw` and is live, so one more reference can be taken.
    let gate = unsafe {
        Arc::increment_strong_count(gate);
        Arc::from_raw(gate)
    };
    Box::into_raw(Box::new(Interrupts::new(vmid, process, rest, gate)))
}

/// `fuse_custom_io.read` of a VM's session.
///
/// # Safety
/// As for [`kvmshim_vcpu_read`](crate::ffi::kvmshim_vcpu_read), with the [`Interrupts`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vm_read(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    userdata: *mut c_void,
) -> isize {
    // SAFETY: the userdata of a VM's session is this, and outlives the session.
    let interrupts = unsafe { &*userdata.cast_const().cast::<Interrupts>() };
    // SAFETY: as the caller promises.
    unsafe { fuse::receive(&interrupts.reading, fd, buffer, len) }
}

/// Undoes [`kvmshim_interrupts_new`].
///
/// # Safety
/// `interrupts` is live, its session has ended, and it is not used afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_interrupts_free(interrupts: *mut Interrupts) {
    // SAFETY: it came from `Box::into_raw` and is given back once.
    drop(unsafe { Box::from_raw(interrupts) });
}

/// What the slot answers: an ioctl's result, or 0 and a structure.
enum Answer {
    Result(c_int),
    Level(Level),
}

/// The ioctl slot of a VM's session: raises interrupts, passes the rest on.
///
/// # Safety
/// Called by libfuse, in a session whose userdata is the [`Interrupts`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vm_ioctl(
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
    // SAFETY: the userdata of a VM's session is this, which outlives the session.
    let interrupts = unsafe { &*fuse::userdata(req).cast_const().cast::<Interrupts>() };
    // SAFETY: the request is live.
    let tid = unsafe { fuse::thread_of(req) };
    pins::follow(tid);
    interrupts.gate.enter(tid);
    // SAFETY: libfuse's own arguments.
    let answer = || unsafe { answer(interrupts, tid, cmd, in_buf, in_bufsz) };
    let answer = catch_unwind(AssertUnwindSafe(answer)).unwrap_or(Some(Answer::Result(-libc::EIO)));
    let Some(answer) = answer else {
        interrupts.gate.withdraw(tid);
        // SAFETY: libfuse's own arguments, passed on once; `rest` replies.
        unsafe { (interrupts.rest)(req, ino, cmd, arg, fi, flags, in_buf, in_bufsz, out_bufsz) };
        return;
    };
    interrupts.gate.leave(tid);
    // SAFETY: the request is live until this reply.
    unsafe {
        match answer {
            Answer::Result(result) => fuse::reply(req, result),
            Answer::Level(level) => fuse::reply_data(req, level.as_bytes()),
        }
    }
}

/// The answer to an ioctl; None where it is not one of these, or fails.
///
/// # Safety
/// `in_buf` points to `in_bufsz` bytes.
unsafe fn answer(
    interrupts: &Interrupts,
    tid: u32,
    cmd: c_uint,
    in_buf: *const c_void,
    in_bufsz: usize,
) -> Option<Answer> {
    match cmd {
        KVM_IRQ_LINE => {
            // SAFETY: as the caller promises.
            let level = unsafe { given(in_buf, in_bufsz) }?;
            interrupts.drive(tid, level)?;
            Some(Answer::Result(0))
        }
        KVM_IRQ_LINE_STATUS => {
            // SAFETY: as the caller promises.
            let [gsi, level]: Level = unsafe { given(in_buf, in_bufsz) }?;
            Some(Answer::Level([interrupts.drive(tid, [gsi, level])?, level]))
        }
        KVM_SIGNAL_MSI => {
            // SAFETY: as the caller promises.
            let message = unsafe { given(in_buf, in_bufsz) }?;
            interrupts.signal(tid, message).map(Answer::Result)
        }
        _ => None,
    }
}
