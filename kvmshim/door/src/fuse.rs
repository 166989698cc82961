//! libfuse3 as the door needs it: five functions, given by Python at start.
//!
//! The library is loaded by Python (`kvmshim/device/fuse_ffi.py`); the door links nothing of it.

use std::ffi::{c_int, c_uint, c_void};
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::{Arc, OnceLock};

use crate::receive::Reading;

/// `fuse_req_t`: one request, valid until it is replied to.
pub type Request = *mut c_void;

/// What libfuse calls when the client's thread is interrupted by a signal.
pub type InterruptFn = unsafe extern "C" fn(Request, *mut c_void);

/// libfuse's ioctl slot: `fuse_lowlevel_ops.ioctl`.
pub type IoctlFn = unsafe extern "C" fn(
    req: Request,
    ino: u64,
    cmd: c_uint,
    arg: *mut c_void,
    fi: *mut c_void,
    flags: c_uint,
    in_buf: *const c_void,
    in_bufsz: usize,
    out_bufsz: usize,
);

/// `struct fuse_ctx`.
#[repr(C)]
pub struct Context {
    uid: u32,
    gid: u32,
    pid: i32,
    umask: u32,
}

/// Function pointers into libfuse3; in the order that `fuse_ffi.addresses_for_door` gives.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Functions {
    reply_ioctl: unsafe extern "C" fn(Request, c_int, *const c_void, usize) -> c_int,
    reply_err: unsafe extern "C" fn(Request, c_int) -> c_int,
    interrupt_func: unsafe extern "C" fn(Request, InterruptFn, *mut c_void),
    userdata: unsafe extern "C" fn(Request) -> *mut c_void,
    ctx: unsafe extern "C" fn(Request) -> *const Context,
}

static FUNCTIONS: OnceLock<Functions> = OnceLock::new();

/// Keeps the functions for good. A second call changes nothing.
pub fn set_functions(functions: Functions) {
    FUNCTIONS.get_or_init(|| functions);
}

fn functions() -> &'static Functions {
    FUNCTIONS.get().expect("kvmshim_door_init comes before the first session")
}

/// Answers `req` with a result of 0 or more, or a negative errno.
///
/// # Safety
/// `req` is a live request of libfuse; it is gone afterwards.
#[allow(unsafe_code, reason = "a call into libfuse")]
pub unsafe fn reply(req: Request, value: c_int) {
    let fuse = functions();
    // SAFETY: the request is live (caller), and the functions are libfuse's own. A failed reply
    // means that the client is gone; libfuse frees the request in any case.
    unsafe {
        if value < 0 {
            (fuse.reply_err)(req, -value);
        } else {
            (fuse.reply_ioctl)(req, value, std::ptr::null(), 0);
        }
    }
}

/// Answers `req` with 0 and copies `data` to where the ioctl's argument points, which must be as long
/// as the ioctl's number says. The client gets EFAULT where that is not possible.
///
/// # Safety
/// `req` is a live request of libfuse; it is gone afterwards.
#[allow(unsafe_code, reason = "a call into libfuse")]
pub unsafe fn reply_data(req: Request, data: &[u8]) {
    // SAFETY: the request is live (caller), and libfuse copies from `data` before it returns.
    unsafe { (functions().reply_ioctl)(req, 0, data.as_ptr().cast(), data.len()) };
}

/// Has `func(req, data)` called when the client's thread gets a signal; at once if it has one.
///
/// # Safety
/// `req` is live, and `data` outlives the request.
#[allow(unsafe_code, reason = "a call into libfuse")]
pub unsafe fn on_interrupt(req: Request, func: InterruptFn, data: *mut c_void) {
    // SAFETY: as the caller promises; libfuse calls `func` only until the request is replied to.
    unsafe { (functions().interrupt_func)(req, func, data) }
}

/// The pointer that the request's session was made with.
///
/// # Safety
/// `req` is live.
#[allow(unsafe_code, reason = "a call into libfuse")]
pub unsafe fn userdata(req: Request) -> *mut c_void {
    // SAFETY: the request is live (caller).
    unsafe { (functions().userdata)(req) }
}

/// The thread that made the request, in this process's PID namespace; 0 where it is outside of it.
///
/// # Safety
/// `req` is live.
#[allow(unsafe_code, reason = "a call into libfuse")]
pub unsafe fn thread_of(req: Request) -> u32 {
    // SAFETY: the request is live (caller), and its context lives as long as it.
    unsafe { (*(functions().ctx)(req)).pid.cast_unsigned() }
}

/// Reads the next request of a session, as `fuse_custom_io.read` does: its length, or -1 and errno.
///
/// # Safety
/// `fd` is open, and `buffer` has room for `len` bytes.
#[allow(unsafe_code, reason = "libfuse's own buffer and descriptor")]
pub unsafe fn receive(reading: &Arc<Reading>, fd: c_int, buffer: *mut c_void, len: usize) -> isize {
    // SAFETY: as the caller promises; what the buffer holds is not looked at.
    let buffer = unsafe { std::slice::from_raw_parts_mut(buffer.cast::<MaybeUninit<u8>>(), len) };
    // SAFETY: as the caller promises.
    let fd = unsafe { BorrowedFd::borrow_raw(fd) };
    match reading.receive(fd, buffer) {
        Ok(length) => length.cast_signed(),
        Err(error) => {
            // SAFETY: errno is this thread's own.
            unsafe { *libc::__errno_location() = error.raw_os_error().unwrap_or(libc::EIO) };
            -1
        }
    }
}
