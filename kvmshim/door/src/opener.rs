//! The thread that opens kvmshim's own FUSE files on the server's behalf.
//!
//! The kernel aborts a FUSE connection when the last descriptor of `/dev/fuse` is closed, and only that
//! ends the wait of a thread whose request nobody answers any more, killed or not. A server that opened its
//! own file and were killed meanwhile would hold that descriptor while it waits. So this thread has a
//! table of descriptors of its own, with nothing in it but a socket: it never runs Python, which closes
//! descriptors on whichever thread collects garbage.
//!
//! A request is a packet: what to do, the path, and beside it the directory that the path begins in. The
//! answer is a [`Reply`], and beside it the file.
#![allow(unsafe_code, reason = "a table of descriptors apart is nothing that safe code can make")]

use std::ffi::{OsStr, c_int, c_uint};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::sync::mpsc;
use std::thread;

use rustix::fs::{self, Mode, OFlags, Stat};
use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer,
    SendAncillaryMessage, SendFlags, recvmsg, sendmsg,
};
use rustix::thread::{Pid, gettid};
use zerocopy::{Immutable, IntoBytes};

/// What to do: open for reading and writing, open for reading, stat(2).
const OPEN: u8 = b'o';
const OPEN_TO_READ: u8 = b'r';
const STAT: u8 = b's';
const MAX_REQUEST: usize = 8192;

#[derive(IntoBytes, Immutable)]
#[repr(C)]
struct Reply {
    /// An errno or 0.
    error: i32,
    reserved: u32,
    device: u64,
    inode: u64,
}

/// Starts the thread, which answers until the other end of `channel` is closed; its number.
///
/// # Errors
/// There is no thread to be had, or no table of descriptors.
pub fn start(channel: &OwnedFd) -> io::Result<Pid> {
    let (tell, told) = mpsc::channel();
    let number = channel.as_raw_fd();
    thread::Builder::new().name("kvmshim-opener".into()).spawn(move || {
        let alone = leave_all_but(number);
        let ready = alone.is_ok();
        if tell.send(alone.map(|()| gettid())).is_ok() && ready {
            // SAFETY: `channel` was open when this thread took its copy of all descriptors, of
            // which nobody else closes any.
            serve(&unsafe { OwnedFd::from_raw_fd(number) });
        }
    })?;
    // Until here `channel` is borrowed, so the copy was made of an open descriptor.
    told.recv().unwrap_or_else(|_| Err(io::ErrorKind::BrokenPipe.into()))
}

/// Gives this thread a table of descriptors of its own that has just this one, and no signals.
fn leave_all_but(number: c_int) -> io::Result<()> {
    block_signals();
    let kept = number as c_uint;
    close_range(kept + 1, c_uint::MAX, libc::CLOSE_RANGE_UNSHARE)?;
    if kept > 0 { close_range(0, kept - 1, 0) } else { Ok(()) }
}

fn close_range(first: c_uint, last: c_uint, flags: c_uint) -> io::Result<()> {
    // SAFETY: no memory is touched; the descriptors are this thread's own copies, the first call makes
    // them so, and no Rust object of this thread owns any of them.
    let result = unsafe { libc::syscall(libc::SYS_close_range, first, last, flags) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn block_signals() {
    let mut all = MaybeUninit::uninit();
    // SAFETY: sigfillset(3) makes the set; the mask is this thread's.
    unsafe {
        libc::sigfillset(all.as_mut_ptr());
        libc::pthread_sigmask(libc::SIG_BLOCK, all.as_ptr(), std::ptr::null_mut());
    }
}

fn serve(channel: &OwnedFd) {
    let mut request = [0; MAX_REQUEST];
    while let Ok((len @ 1.., directory)) = receive(channel, &mut request) {
        let (what, path) = (request[0], &request[1..len]);
        let (reply, file) = match answer(what, OsStr::from_bytes(path), directory.as_ref()) {
            Ok((status, file)) => (Reply::of(&status), file),
            Err(error) => (Reply::failed(error), None),
        };
        if send(channel, &reply, file.as_ref()).is_err() {
            break;
        }
    }
}

fn answer(
    what: u8,
    path: &OsStr,
    directory: Option<&OwnedFd>,
) -> rustix::io::Result<(Stat, Option<OwnedFd>)> {
    let directory = directory.map_or(fs::CWD, AsFd::as_fd);
    let access = match what {
        OPEN => OFlags::RDWR,
        OPEN_TO_READ => OFlags::RDONLY,
        STAT => return Ok((fs::stat(path)?, None)),
        _ => return Err(rustix::io::Errno::INVAL),
    };
    let file = fs::openat(directory, path, access | OFlags::CLOEXEC, Mode::empty())?;
    Ok((fs::fstat(&file)?, Some(file)))
}

impl Reply {
    fn of(status: &Stat) -> Self {
        Reply { error: 0, reserved: 0, device: status.st_dev, inode: status.st_ino }
    }

    fn failed(error: rustix::io::Errno) -> Self {
        Reply { error: error.raw_os_error(), reserved: 0, device: 0, inode: 0 }
    }
}

fn receive(channel: &OwnedFd, request: &mut [u8]) -> rustix::io::Result<(usize, Option<OwnedFd>)> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = RecvAncillaryBuffer::new(&mut space);
    let mut parts = [IoSliceMut::new(request)];
    let received = recvmsg(channel, &mut parts, &mut beside, RecvFlags::CMSG_CLOEXEC)?;
    let files = beside.drain().filter_map(|message| match message {
        RecvAncillaryMessage::ScmRights(files) => Some(files),
        _ => None,
    });
    Ok((received.bytes, files.flatten().next()))
}

fn send(channel: &OwnedFd, reply: &Reply, file: Option<&OwnedFd>) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut beside = SendAncillaryBuffer::new(&mut space);
    let files: Vec<BorrowedFd<'_>> = file.into_iter().map(AsFd::as_fd).collect();
    if !files.is_empty() {
        beside.push(SendAncillaryMessage::ScmRights(&files));
    }
    sendmsg(channel, &[IoSlice::new(reply.as_bytes())], &mut beside, SendFlags::NOSIGNAL)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use rustix::net::{AddressFamily, SocketFlags, SocketType, socketpair};
    use zerocopy::FromBytes;

    use super::*;

    /// Our end of an opener's channel.
    fn started() -> OwnedFd {
        let flags = SocketFlags::CLOEXEC;
        let (ours, theirs) =
            socketpair(AddressFamily::UNIX, SocketType::SEQPACKET, flags, None).unwrap();
        start(&theirs).unwrap();
        ours
    }

    /// An errno, an inode, and the file.
    fn asked(channel: &OwnedFd, what: u8, path: &str) -> (i32, u64, Option<OwnedFd>) {
        let request = [&[what], path.as_bytes()].concat();
        let mut nothing = SendAncillaryBuffer::default();
        sendmsg(channel, &[IoSlice::new(&request)], &mut nothing, SendFlags::NOSIGNAL).unwrap();
        let mut reply = [0; size_of::<Reply>()];
        let (len, file) = receive(channel, &mut reply).unwrap();
        assert_eq!(len, reply.len());
        let (error, rest) = i32::read_from_prefix(&reply).unwrap();
        (error, u64::read_from_suffix(rest).unwrap().1, file)
    }

    #[test]
    fn a_file_is_opened_and_said_to_be_the_one_it_is() {
        let channel = started();
        let (error, inode, file) = asked(&channel, OPEN_TO_READ, "/proc/self/status");
        let status = fs::fstat(file.unwrap()).unwrap();
        assert_eq!((error, inode), (0, status.st_ino));
    }

    #[test]
    fn what_cannot_be_is_an_errno() {
        let channel = started();
        assert_eq!(asked(&channel, OPEN, "/proc").0, libc::EISDIR);
        assert_eq!(asked(&channel, STAT, "/proc/none").0, libc::ENOENT);
        assert_eq!(asked(&channel, b'?', "/proc").0, libc::EINVAL);
        assert_eq!(asked(&channel, STAT, "/proc").0, 0);
    }

    #[test]
    fn it_has_no_descriptor_but_its_own() {
        let channel = started();
        let (_, _, listing) = asked(&channel, OPEN_TO_READ, "/proc/thread-self/fd");
        let listing = listing.unwrap();
        // Answered when the file it has just sent is closed.
        asked(&channel, STAT, "/");
        let path = PathBuf::from(format!("/proc/self/fd/{}", listing.as_raw_fd()));
        assert_eq!(path.read_dir().unwrap().count(), 1);
    }
}
