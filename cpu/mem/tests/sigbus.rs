//! A client truncates the file behind guest memory; this process lives on.
//!
//! Bus errors are a matter of the whole process, so each case runs in a child of its own.
#![allow(unsafe_code)]
#![cfg(not(miri))]

use std::ffi::c_int;
use std::ptr;

use cpu_mem::{PageFlags, PhysMap, install_sigbus_guard, register_range, unregister_range};

const PAGE: usize = 4096;

/// A shared mapping of a memfd, and the memfd.
struct Shared {
    fd: c_int,
    address: u64,
}

impl Shared {
    fn of_pages(count: usize) -> Self {
        // SAFETY: plain system calls; the mapping is new memory.
        unsafe {
            let fd = libc::memfd_create(c"guest".as_ptr(), 0);
            assert!(fd >= 0 && libc::ftruncate(fd, (count * PAGE) as i64) == 0);
            let protection = libc::PROT_READ | libc::PROT_WRITE;
            let mapping =
                libc::mmap(ptr::null_mut(), count * PAGE, protection, libc::MAP_SHARED, fd, 0);
            assert_ne!(mapping, libc::MAP_FAILED);
            Self { fd, address: mapping as u64 }
        }
    }

    fn truncate(&self, pages: usize) {
        // SAFETY: a plain system call.
        assert_eq!(unsafe { libc::ftruncate(self.fd, (pages * PAGE) as i64) }, 0);
    }

    /// The mapping as guest memory from gpa 0 on.
    fn as_guest_memory(&self, pages: u64) -> PhysMap {
        let phys = PhysMap::new();
        for page in 0..pages {
            let hva = self.address + page * PAGE as u64;
            // SAFETY: the mapping lives until the child ends.
            unsafe { phys.map_page(page * PAGE as u64, hva, PageFlags::ALL) }.expect("vacant");
        }
        phys
    }
}

/// Runs `body` in a child process; returns its wait status.
fn status_of_child(body: impl FnOnce()) -> c_int {
    // SAFETY: the child runs `body` and ends without returning to the test harness.
    unsafe {
        match libc::fork() {
            0 => {
                let no_core = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
                libc::setrlimit(libc::RLIMIT_CORE, &raw const no_core);
                body();
                libc::_exit(0)
            }
            child => {
                assert!(child > 0);
                let mut status = 0;
                assert_eq!(libc::waitpid(child, &raw mut status, 0), child);
                status
            }
        }
    }
}

fn exit_unless(condition: bool, code: c_int) {
    if !condition {
        // SAFETY: ends the child.
        unsafe { libc::_exit(code) }
    }
}

#[test]
fn lost_memory_reads_as_zero_and_takes_writes() {
    let status = status_of_child(|| {
        let shared = Shared::of_pages(4);
        let phys = shared.as_guest_memory(4);
        exit_unless(install_sigbus_guard().is_ok(), 1);
        register_range(shared.address, 4 * PAGE as u64);
        let page = |n: u64| phys.page(n * PAGE as u64).expect("mapped");
        (0..4).for_each(|n| page(n).store(8, 7_u64));
        shared.truncate(0);
        exit_unless(page(1).load::<u64>(8) == 0, 2);
        page(2).store(8, 5_u64);
        exit_unless(page(2).load::<u64>(8) == 5, 3);
        exit_unless(page(3).fetch_add(8, 1_u32) == 0, 4);
    });
    assert_eq!(status, 0);
}

#[test]
fn only_the_lost_pages_are_replaced() {
    let status = status_of_child(|| {
        let shared = Shared::of_pages(2);
        let phys = shared.as_guest_memory(2);
        exit_unless(install_sigbus_guard().is_ok(), 1);
        register_range(shared.address, 2 * PAGE as u64);
        shared.truncate(1);
        let page = |n: u64| phys.page(n * PAGE as u64).expect("mapped");
        page(1).store(0, 1_u8);
        page(0).store(0, 9_u8);
        let mut seen = [0_u8];
        // SAFETY: reads one byte of the file into `seen`.
        let count = unsafe { libc::pread(shared.fd, seen.as_mut_ptr().cast(), 1, 0) };
        exit_unless(count == 1 && seen == [9], 2);
    });
    assert_eq!(status, 0);
}

#[test]
fn a_bus_error_elsewhere_ends_the_process() {
    let status = status_of_child(|| {
        let shared = Shared::of_pages(1);
        let phys = shared.as_guest_memory(1);
        exit_unless(install_sigbus_guard().is_ok(), 1);
        register_range(shared.address, PAGE as u64);
        exit_unless(unregister_range(shared.address, PAGE as u64), 2);
        shared.truncate(0);
        phys.page(0).expect("mapped").load::<u8>(0);
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGBUS);
}

#[test]
fn a_bus_error_elsewhere_goes_to_the_earlier_handler() {
    extern "C" fn earlier(_signal: c_int) {
        // SAFETY: ends the child; async-signal-safe.
        unsafe { libc::_exit(42) }
    }
    let status = status_of_child(|| {
        let shared = Shared::of_pages(1);
        let phys = shared.as_guest_memory(1);
        let handler: extern "C" fn(c_int) = earlier;
        // SAFETY: the handler has the right signature and is async-signal-safe.
        unsafe { libc::signal(libc::SIGBUS, handler as libc::sighandler_t) };
        exit_unless(install_sigbus_guard().is_ok(), 1);
        shared.truncate(0);
        phys.page(0).expect("mapped").load::<u8>(0);
    });
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 42);
}

#[test]
fn installing_twice_keeps_the_earlier_handler_reachable() {
    let status = status_of_child(|| {
        exit_unless(install_sigbus_guard().is_ok(), 1);
        exit_unless(install_sigbus_guard().is_ok(), 2);
        let shared = Shared::of_pages(1);
        let phys = shared.as_guest_memory(1);
        shared.truncate(0);
        phys.page(0).expect("mapped").load::<u8>(0);
    });
    assert!(libc::WIFSIGNALED(status));
}

#[test]
fn a_bus_error_that_was_sent_ends_the_process_at_once() {
    let status = status_of_child(|| {
        // Rust's runtime has a handler.
        // SAFETY: plain system calls.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_DFL) };
        exit_unless(install_sigbus_guard().is_ok(), 1);
        // SAFETY: as above.
        unsafe { libc::kill(libc::getpid(), libc::SIGBUS) };
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGBUS);
}

#[test]
fn a_bus_error_that_was_sent_and_ignored_stays_so() {
    let status = status_of_child(|| {
        // SAFETY: plain system calls.
        unsafe { libc::signal(libc::SIGBUS, libc::SIG_IGN) };
        exit_unless(install_sigbus_guard().is_ok(), 1);
        // SAFETY: as above.
        unsafe { libc::kill(libc::getpid(), libc::SIGBUS) };
    });
    assert_eq!(status, 0);
}
