//! What Python calls and what libfuse calls: the C face of the door.
//!
//! Pointers are checked by their makers: a gate or vCPU handed in is one that `_new` returned and
//! that `_free` has not taken. A panic ends here with an EIO for the client.
#![allow(unsafe_code, reason = "the boundary with C")]

use std::ffi::{c_int, c_uint, c_void};
use std::io;
use std::os::fd::{BorrowedFd, FromRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use zerocopy::{FromBytes, IntoBytes};

use crate::dirty_ring::{self, DirtyRing};
use crate::fuse::{self, Functions, IoctlFn, Request};
use crate::gate::Gate;
use crate::ioctls::{KVM_GET_REGS, KVM_RUN, KVM_SET_REGS, KVMSHIM_ECHO};
use crate::ioeventfd::{self, Space, Watched};
use crate::irqfd;
use crate::opener;
use crate::pins;
use crate::regs;
use crate::run_area::RunArea;
use crate::shared_pages::SharedPages;
use crate::vcpu::{Ids, SyncFn, Vcpu};

/// Gives the door libfuse's functions. Called once, before the first session.
///
/// # Safety
/// `functions` points to `struct kvmshim_fuse`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_door_init(functions: *const Functions) {
    // SAFETY: as the caller promises.
    fuse::set_functions(unsafe { *functions });
    share_heaps();
}

/// Heaps of malloc(3) that the threads share. Each thread gets one of its own otherwise, and each lies
/// partly idle: a session has several threads, of which one works.
const HEAPS: c_int = 2;

fn share_heaps() {
    // SAFETY: a setting of malloc(3), which any thread may change at any time.
    #[cfg(target_env = "gnu")]
    unsafe {
        libc::mallopt(libc::M_ARENA_MAX, HEAPS)
    };
}

/// Threads that call KVM_RUN, and those that serve them, stay on one processor from now on.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_pin_vcpus() {
    pins::enable();
}

/// Starts the thread that opens kvmshim's files; its number, or a negative errno. It answers at the other
/// end of `channel`, which it takes.
///
/// # Safety
/// `channel` is an open descriptor that nobody uses afterwards.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_opener_start(channel: c_int) -> c_int {
    // SAFETY: as the caller promises.
    let channel = unsafe { OwnedFd::from_raw_fd(channel) };
    match opener::start(&channel) {
        Ok(thread) => thread.as_raw_nonzero().get(),
        Err(error) => -error.raw_os_error().unwrap_or(libc::EAGAIN),
    }
}

/// `fuse_custom_io.writev`: writev(2).
///
/// # Safety
/// As for writev(2).
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_session_writev(
    fd: c_int,
    parts: *const c_void,
    count: c_int,
    _userdata: *mut c_void,
) -> isize {
    // SAFETY: as the caller promises.
    unsafe { libc::writev(fd, parts.cast(), count) }
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

/// The dirty ring in a vCPU's memfd; there is none of 0 bytes.
fn dirty_ring(memfd: BorrowedFd<'_>, bytes: usize) -> io::Result<Option<Arc<DirtyRing>>> {
    if bytes == 0 {
        return Ok(None);
    }
    let entries = SharedPages::map(memfd, dirty_ring::AT, bytes)?;
    Ok(Some(Arc::new(DirtyRing::new(entries, (bytes / dirty_ring::ENTRY) as u32))))
}

/// A vCPU's part of the door; null when its area cannot be mapped.
///
/// `memfd` is the area (three pages) and has the dirty ring of `ring_bytes` where the client maps it;
/// `rest` answers every ioctl but KVM_RUN, `sync` exchanges the
/// registers in the area, `process` is the only thread group that may call.
///
/// # Safety
/// `gate` is live; `memfd` is an open descriptor for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_new(
    vmid: u16,
    vsid: u16,
    process: u32,
    has_lapic: bool,
    memfd: c_int,
    ring_bytes: usize,
    rest: IoctlFn,
    sync: SyncFn,
    gate: *const Gate,
) -> *mut Vcpu {
    // SAFETY: as the caller promises.
    let memfd = unsafe { BorrowedFd::borrow_raw(memfd) };
    let (Ok(area), Ok(ring)) = (RunArea::map(memfd), dirty_ring(memfd, ring_bytes)) else {
        return std::ptr::null_mut();
    };
    // SAFETY: `gate` came from `Arc::into_raw` and is live, so one more reference can be taken.
    let gate = unsafe {
        Arc::increment_strong_count(gate);
        Arc::from_raw(gate)
    };
    let ids = Ids { vmid, vsid, process, has_lapic };
    Box::into_raw(Box::new(Vcpu::new(ids, area, ring, rest, sync, gate)))
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

/// `fuse_custom_io.read` of a vCPU's session.
///
/// # Safety
/// Called by libfuse: `fd` is open, `buffer` has room for `len` bytes, `userdata` is the [`Vcpu`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_vcpu_read(
    fd: c_int,
    buffer: *mut c_void,
    len: usize,
    userdata: *mut c_void,
) -> isize {
    // SAFETY: the userdata of a vCPU's session is its vCPU, which outlives the session.
    let vcpu = unsafe { &*userdata.cast_const().cast::<Vcpu>() };
    // SAFETY: as the caller promises.
    unsafe { fuse::receive(&vcpu.reading, fd, buffer, len) }
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

/// The ioctl slot of a vCPU's session: keeps KVM_RUN, KVM_GET_REGS and KVM_SET_REGS, passes the rest on
/// in its turn.
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
    if !matches!(cmd, KVM_RUN | KVM_GET_REGS | KVM_SET_REGS) {
        return vcpu.in_turn(|| {
            // SAFETY: libfuse's own arguments, passed on once; `rest` replies.
            unsafe { (vcpu.rest)(req, ino, cmd, arg, fi, flags, in_buf, in_bufsz, out_bufsz) }
        });
    }
    // SAFETY: the request is live.
    let tid = unsafe { fuse::thread_of(req) };
    vcpu.gate.enter(tid);
    let answer = || match cmd {
        KVM_GET_REGS => vcpu.get_regs(tid).map(Some),
        // SAFETY: libfuse's own arguments.
        KVM_SET_REGS => unsafe { given::<regs::Values>(in_buf, in_bufsz) }
            .ok_or(-libc::EFAULT)
            .and_then(|values| vcpu.set_regs(tid, &values))
            .map(|()| None),
        // SAFETY: the request is live until the reply below.
        _ => match unsafe { vcpu.run(req, arg.addr(), tid) } {
            0 => Ok(None),
            error => Err(error),
        },
    };
    let answer = catch_unwind(AssertUnwindSafe(answer)).unwrap_or(Err(-libc::EIO));
    vcpu.gate.leave(tid);
    // SAFETY: the request is live until this reply.
    unsafe {
        match answer {
            Ok(Some(values)) => fuse::reply_data(req, values.as_bytes()),
            Ok(None) => fuse::reply(req, 0),
            Err(error) => fuse::reply(req, error),
        }
    }
}

/// What came with an ioctl, if it is that long.
///
/// # Safety
/// `bytes` points to `size` bytes.
pub unsafe fn given<T: FromBytes>(bytes: *const c_void, size: usize) -> Option<T> {
    // SAFETY: as long as `T` by the comparison (and the caller), and any bytes are a value of `T`.
    (size == size_of::<T>()).then(|| unsafe { bytes.cast::<T>().read_unaligned() })
}

/// A write of the guest that an eventfd waits for.
#[repr(C)]
pub struct IoEvent {
    /// A port; else guest-physical memory.
    port: bool,
    /// Bytes written; 0 for any number.
    len: u8,
    /// Whatever is written counts; else only `data`.
    any_data: bool,
    address: u64,
    data: u64,
}

impl IoEvent {
    fn watched(&self) -> Watched {
        Watched {
            space: if self.port { Space::Port } else { Space::Memory },
            address: self.address,
            len: self.len,
            data: (!self.any_data).then_some(self.data),
        }
    }
}

/// A duplicate of a descriptor, or None where there is none (left).
///
/// # Safety
/// `fd` is an open descriptor for the time of the call.
unsafe fn duplicate(fd: c_int) -> Option<OwnedFd> {
    // SAFETY: as the caller promises.
    unsafe { BorrowedFd::borrow_raw(fd) }.try_clone_to_owned().ok()
}

/// Signals an eventfd, of which a duplicate is kept, for writes of a VM's guest. False: a write
/// could be for another one too.
///
/// # Safety
/// `event` points to an [`IoEvent`]; `fd` is open for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_ioeventfd_add(
    vmid: u16,
    event: *const IoEvent,
    identity: u64,
    fd: c_int,
) -> bool {
    // SAFETY: as the caller promises.
    let (event, eventfd) = unsafe { (&*event, duplicate(fd)) };
    let events = ioeventfd::of_vm(vmid);
    eventfd.is_some_and(|eventfd| events.add(event.watched(), identity, eventfd).is_ok())
}

/// Undoes [`kvmshim_ioeventfd_add`]. False: there was none.
///
/// # Safety
/// `event` points to an [`IoEvent`].
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_ioeventfd_remove(
    vmid: u16,
    event: *const IoEvent,
    identity: u64,
) -> bool {
    // SAFETY: as the caller promises.
    let event = unsafe { &*event };
    ioeventfd::of_vm(vmid).remove(&event.watched(), identity).is_ok()
}

/// Signals an eventfd, of which a duplicate is kept, for what a VM's guest signals to a connection. False:
/// it has one.
///
/// # Safety
/// `fd` is open for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_connection_add(vmid: u16, number: u32, fd: c_int) -> bool {
    // SAFETY: as the caller promises.
    let eventfd = unsafe { duplicate(fd) };
    let events = ioeventfd::of_vm(vmid);
    eventfd.is_some_and(|eventfd| events.connect(number, eventfd).is_ok())
}

/// Undoes [`kvmshim_connection_add`]. False: there was none.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_connection_remove(vmid: u16, number: u32) -> bool {
    ioeventfd::of_vm(vmid).disconnect(number).is_ok()
}

/// Lets an eventfd, of which a duplicate is kept, raise a line; `resample` is -1 for none. False: it
/// raises one of the VM already.
///
/// # Safety
/// `fd`, and `resample` unless it is -1, are open for the time of the call.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn kvmshim_irqfd_assign(
    vmid: u16,
    gsi: u32,
    identity: u64,
    fd: c_int,
    resample: c_int,
) -> bool {
    // SAFETY: as the caller promises.
    let (eventfd, resample) =
        unsafe { (duplicate(fd), (resample >= 0).then(|| duplicate(resample))) };
    match (eventfd, resample) {
        (Some(eventfd), None) => irqfd::assign(vmid, gsi, identity, eventfd, None).is_ok(),
        (Some(eventfd), Some(Some(resample))) => {
            irqfd::assign(vmid, gsi, identity, eventfd, Some(resample)).is_ok()
        }
        _ => false,
    }
}

/// Undoes [`kvmshim_irqfd_assign`], if it was done.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_irqfd_deassign(vmid: u16, gsi: u32, identity: u64) {
    irqfd::deassign(vmid, gsi, identity);
}

/// Closes the eventfds of a VM that ends.
#[unsafe(no_mangle)]
pub extern "C" fn kvmshim_vm_forget(vmid: u16) {
    irqfd::forget(vmid);
    ioeventfd::forget(vmid);
}
