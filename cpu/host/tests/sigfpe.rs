//! Arithmetic faults outside of snippets go where they went before; those inside end there.
//!
//! Signal handlers are a matter of the whole process, so each case runs in a child of its own.
#![allow(unsafe_code)]

use std::arch::asm;
use std::ffi::c_int;
use std::{mem, ptr};

use cpu_host::{Exchange, FpuState, MXCSR, Outcome, Snippets, install_sigfpe_guard};
use iced_x86::{Decoder, DecoderOptions};

/// Exit code of the handler that was there before.
const CHAINED: c_int = 7;

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

extern "C" fn leave(_: c_int) {
    // SAFETY: _exit(2) is async-signal-safe.
    unsafe { libc::_exit(CHAINED) }
}

fn divide_by_zero() {
    // SAFETY: faults, which is the purpose; RAX and RDX are declared.
    unsafe {
        asm!("div {zero}", zero = in(reg) 0_u64, inout("rax") 1_u64 => _, inout("rdx") 0_u64 => _);
    }
}

/// `divps xmm0, xmm1` with zeros and unmasked exceptions; whether it faulted as it should.
fn fault_in_a_snippet() -> bool {
    let instruction = Decoder::new(64, &[0x0F, 0x5E, 0xC1], DecoderOptions::NONE).decode();
    let (mut snippets, mut state) = (Snippets::new(), FpuState::at_reset());
    let snippet = snippets.make(&instruction).expect("every host has it");
    state.set_u32(MXCSR, 0);
    snippets.run(&snippet, &mut state, &mut Exchange::new()) == Outcome::Faulted(19)
}

#[test]
fn a_fault_elsewhere_reaches_the_handler_before_ours() {
    let status = status_of_child(|| {
        // SAFETY: `leave` is a handler without SA_SIGINFO.
        unsafe { libc::signal(libc::SIGFPE, leave as extern "C" fn(c_int) as usize) };
        assert_eq!(install_sigfpe_guard(), Ok(()));
        if fault_in_a_snippet() {
            divide_by_zero();
        }
    });
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), CHAINED);
}

#[test]
fn a_fault_elsewhere_ends_the_process_by_default() {
    let status = status_of_child(|| {
        assert_eq!(install_sigfpe_guard(), Ok(()));
        divide_by_zero();
    });
    assert!(libc::WIFSIGNALED(status));
    assert_eq!(libc::WTERMSIG(status), libc::SIGFPE);
}

#[test]
fn a_signal_that_was_sent_and_ignored_stays_so() {
    let status = status_of_child(|| {
        // SAFETY: plain system calls.
        unsafe { libc::signal(libc::SIGFPE, libc::SIG_IGN) };
        assert_eq!(install_sigfpe_guard(), Ok(()));
        // SAFETY: as above.
        unsafe { libc::raise(libc::SIGFPE) };
    });
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0);
}

#[test]
fn a_snippet_faults_on_a_thread_with_its_own_signal_stack() {
    let status = status_of_child(|| {
        let thread = std::thread::spawn(|| {
            let mut stack = vec![0_u8; 1 << 16];
            // SAFETY: the stack lives longer than the thread's use of it.
            unsafe {
                let mut new: libc::stack_t = mem::zeroed();
                new.ss_sp = stack.as_mut_ptr().cast();
                new.ss_size = stack.len();
                libc::sigaltstack(&raw const new, ptr::null_mut());
            }
            let faulted = fault_in_a_snippet();
            // SAFETY: the handler has returned, so that the stack is not in use.
            unsafe {
                let mut off: libc::stack_t = mem::zeroed();
                off.ss_flags = libc::SS_DISABLE;
                libc::sigaltstack(&raw const off, ptr::null_mut());
            }
            // The frame of the signal is in the stack that was given.
            faulted && stack.iter().any(|&byte| byte != 0)
        });
        if !thread.join().unwrap_or(false) {
            divide_by_zero();
        }
    });
    assert!(libc::WIFEXITED(status));
    assert_eq!(libc::WEXITSTATUS(status), 0);
}
