//! An eventfd of a client: eventfd(2). Its flags are shared with the client, so nothing here changes
//! them, and nothing blocks on them.

use std::os::fd::OwnedFd;

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::{Errno, ReadWriteFlags};

/// Adds one. At the largest count it stays there, as in the kernel.
pub fn signal(eventfd: &OwnedFd) {
    let mut ready = [PollFd::new(eventfd, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    if matches!(poll(&mut ready, Some(&now)), Ok(1)) {
        // The client has an eventfd that it can break; there is nobody to tell.
        let _ = rustix::io::write(eventfd, &1_u64.to_ne_bytes());
    }
}

/// Takes the count; whether there was one.
pub fn take(eventfd: &OwnedFd) -> bool {
    let mut count = [0; 8];
    let buffers = &mut [std::io::IoSliceMut::new(&mut count)];
    match rustix::io::preadv2(eventfd, buffers, u64::MAX, ReadWriteFlags::NOWAIT) {
        Ok(len) => len == count.len(),
        // A kernel before 5.8, where the client must not have read meanwhile.
        Err(Errno::OPNOTSUPP) => rustix::io::read(eventfd, &mut count[..]).is_ok(),
        Err(_) => false,
    }
}
