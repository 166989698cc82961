//! Which thread of a session reads the client's next request, and how it waits for it.
//!
//! The one that has answered the last, so that a client whose exits are short is served by one thread
//! with warm caches; the kernel would wake another one each time. While a request takes long, as a
//! KVM_RUN may, somebody has to read what comes meanwhile, a FUSE_INTERRUPT above all: after one or two
//! [`INTERVAL`]s the reading passes to a thread in reserve. One thread of the server looks at the
//! sessions that have just had a request.
//!
//! A client calls again soon after most of its exits, and to wake a thread takes longer than many an
//! exit. So the reader looks for the next request for a while before it sleeps, as KVM does for a vCPU
//! in HLT (`Documentation/virt/kvm/halt-polling.rst`): as long as the last waits make likely to be of
//! use, and not at all after a long one. Whoever else wants the CPU meanwhile gets it.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::BorrowedFd;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Condvar, LazyLock, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId, available_parallelism};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use crate::pins;

/// Between looks at the sessions.
const INTERVAL: Duration = Duration::from_micros(100);
/// Looks at a session without a request before it is left alone.
const IDLE_LOOKS: u32 = 5;
/// How long a reader looks for a request at first, and at most.
const SHORTEST: Duration = Duration::from_micros(50);
const LONGEST: Duration = Duration::from_micros(100);

/// The reading of one session.
#[derive(Debug, Default)]
pub struct Reading {
    turn: Mutex<Turn>,
    /// The turn is free.
    free: Condvar,
    /// Requests begun and ended: odd while the reader handles one.
    requests: AtomicU64,
    /// It is among [`WATCHED`].
    watched: AtomicBool,
    /// How long the reader looks for a request, in nanoseconds.
    patience: AtomicU64,
}

#[derive(Debug, Default)]
struct Turn {
    /// Who reads, or handles what it has just read.
    reader: Option<ThreadId>,
    /// The connection has ended.
    ended: bool,
}

impl Reading {
    /// Reads the next request from the connection `fd` into `buffer`: its length. A thread that comes
    /// again has handled its last one.
    ///
    /// Not a cancellation point of POSIX threads.
    ///
    /// # Errors
    /// Those of read(2); ENODEV when the connection has ended.
    pub fn receive(
        self: &Arc<Self>,
        fd: BorrowedFd<'_>,
        buffer: &mut [MaybeUninit<u8>],
    ) -> io::Result<usize> {
        self.take_turn();
        let begin = Instant::now();
        let patience = Duration::from_nanos(self.patience.load(Ordering::Relaxed));
        if !pins::shares_processor() {
            look(fd, begin, patience);
        }
        let read = rustix::io::read(fd, buffer);
        match read {
            Ok((filled, _)) => {
                let patience = after(patience, begin.elapsed());
                self.patience.store(patience.as_nanos() as u64, Ordering::Relaxed);
                self.begin();
                microv::arrival::note();
                Ok(filled.len())
            }
            Err(error) => {
                self.give_up(error);
                Err(error.into())
            }
        }
    }

    /// Waits until it is this thread's turn to read.
    fn take_turn(&self) {
        let this = thread::current().id();
        let mut turn = self.turn();
        if turn.reader == Some(this) {
            self.requests.fetch_add(1, Ordering::SeqCst);
            return;
        }
        while turn.reader.is_some() && !turn.ended {
            turn = self.free.wait(turn).unwrap_or_else(PoisonError::into_inner);
        }
        turn.reader = Some(this);
    }

    /// The reader has read a request.
    fn begin(self: &Arc<Self>) {
        self.requests.fetch_add(1, Ordering::SeqCst);
        if !self.watched.swap(true, Ordering::SeqCst) {
            watch(self);
        }
    }

    /// The reader has read none.
    fn give_up(&self, error: rustix::io::Errno) {
        let mut turn = self.turn();
        turn.reader = None;
        turn.ended |= error == rustix::io::Errno::NODEV;
        self.free.notify_all();
    }

    /// Passes the reading on, if the reader still handles the request it did when `requests` was read.
    fn pass_on(&self, requests: u64) {
        let mut turn = self.turn();
        if self.requests.load(Ordering::SeqCst) == requests {
            self.requests.fetch_add(1, Ordering::SeqCst);
            turn.reader = None;
            self.free.notify_one();
        }
    }

    fn turn(&self) -> MutexGuard<'_, Turn> {
        self.turn.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Waits for something to read without sleeping, at most for `patience` after `begin`. Other threads
/// come first: the client wakes on this CPU where no other one is idle.
fn look(fd: BorrowedFd<'_>, begin: Instant, patience: Duration) {
    const AT_ONCE: Timespec = Timespec { tv_sec: 0, tv_nsec: 0 };
    while begin.elapsed() < patience {
        if poll(&mut [PollFd::new(&fd, PollFlags::IN)], Some(&AT_ONCE)) != Ok(0) {
            break;
        }
        thread::yield_now();
    }
}

/// How long to look for the next request after one that took `waited` to come.
fn after(patience: Duration, waited: Duration) -> Duration {
    match waited {
        _ if waited > LONGEST || !has_cpus_to_spare() => Duration::ZERO,
        _ if waited > patience => (patience * 2).clamp(SHORTEST, LONGEST),
        _ => patience,
    }
}

/// Who looks does not keep the client from its only CPU.
fn has_cpus_to_spare() -> bool {
    static SPARE: LazyLock<bool> =
        LazyLock::new(|| available_parallelism().is_ok_and(|cpus| cpus.get() > 1));
    *SPARE
}

/// A session that has had a request a short while ago.
#[derive(Debug)]
struct Watch {
    reading: Weak<Reading>,
    /// [`Reading::requests`] at the last look.
    seen: u64,
    /// How many looks have seen nothing happen.
    idle: u32,
}

impl Watch {
    /// False: there is nothing to see any more.
    fn look(&mut self) -> bool {
        let Some(reading) = self.reading.upgrade() else { return false };
        let requests = reading.requests.load(Ordering::SeqCst);
        if std::mem::replace(&mut self.seen, requests) != requests {
            self.idle = 0;
            return true;
        }
        if requests % 2 == 1 {
            reading.pass_on(requests);
            return true;
        }
        self.idle += 1;
        if self.idle < IDLE_LOOKS {
            return true;
        }
        reading.watched.store(false, Ordering::SeqCst);
        // A request that began before is watched here, unless it has seen to that itself.
        let begun = reading.requests.load(Ordering::SeqCst) != requests;
        begun && !reading.watched.swap(true, Ordering::SeqCst)
    }
}

/// The sessions that the looker looks at.
static WATCHED: Mutex<Vec<Watch>> = Mutex::new(Vec::new());
static ADDED: Condvar = Condvar::new();

/// Whether the looker could be started.
static LOOKER: LazyLock<bool> = LazyLock::new(|| {
    let looker = thread::Builder::new().name("kvmshim-reading".into());
    looker.spawn(look_for_ever).is_ok()
});

fn watched() -> MutexGuard<'static, Vec<Watch>> {
    WATCHED.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Has the looker look at a session whose reader has just begun a request.
fn watch(reading: &Arc<Reading>) {
    let seen = reading.requests.load(Ordering::SeqCst);
    if *LOOKER {
        watched().push(Watch { reading: Arc::downgrade(reading), seen, idle: 0 });
        ADDED.notify_one();
    } else {
        // Nobody looks: another thread reads at once.
        reading.watched.store(false, Ordering::SeqCst);
        reading.pass_on(seen);
    }
}

fn look_for_ever() -> ! {
    loop {
        let mut sessions = watched();
        while sessions.is_empty() {
            sessions = ADDED.wait(sessions).unwrap_or_else(PoisonError::into_inner);
        }
        sessions.retain_mut(Watch::look);
        drop(sessions);
        thread::sleep(INTERVAL);
    }
}

#[cfg(test)]
mod tests {
    use std::io::{PipeReader, PipeWriter, Write, pipe};
    use std::os::fd::AsFd;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Has a thread receive from `reader` once, or until there is an error; what it got.
    fn receiving(
        reading: &Arc<Reading>,
        reader: &Arc<PipeReader>,
    ) -> Receiver<(ThreadId, io::Result<usize>)> {
        let (reading, reader, (sender, receiver)) =
            (Arc::clone(reading), Arc::clone(reader), channel());
        thread::spawn(move || {
            let mut buffer = [MaybeUninit::uninit(); 1];
            let received = reading.receive(reader.as_fd(), &mut buffer);
            sender.send((thread::current().id(), received)).unwrap();
        });
        receiver
    }

    fn session() -> (Arc<Reading>, Arc<PipeReader>, PipeWriter) {
        let (reader, writer) = pipe().unwrap();
        (Arc::default(), Arc::new(reader), writer)
    }

    #[test]
    fn the_thread_that_comes_again_reads_again() {
        let (reading, reader, mut writer) = session();
        let mut buffer = [MaybeUninit::uninit(); 1];
        for _ in 0..1000 {
            writer.write_all(b"x").unwrap();
            assert_eq!(reading.receive(reader.as_fd(), &mut buffer).unwrap(), 1);
        }
        assert_eq!(reading.turn().reader, Some(thread::current().id()));
    }

    #[test]
    fn a_request_that_takes_long_does_not_keep_the_next_one() {
        let (reading, reader, mut writer) = session();
        for _ in 0..20 {
            writer.write_all(b"x").unwrap();
            let mut buffer = [MaybeUninit::uninit(); 1];
            assert_eq!(reading.receive(reader.as_fd(), &mut buffer).unwrap(), 1);
            // This thread handles it until the other one has got the next.
            let other = receiving(&reading, &reader);
            writer.write_all(b"y").unwrap();
            let (reader_now, received) = other.recv().unwrap();
            assert_eq!(received.unwrap(), 1);
            assert_ne!(reader_now, thread::current().id());
            // The other one's request takes for ever.
        }
    }

    #[test]
    fn the_end_of_the_connection_reaches_all_threads() {
        let (reading, reader, mut writer) = session();
        writer.write_all(b"x").unwrap();
        let mut buffer = [MaybeUninit::uninit(); 1];
        reading.receive(reader.as_fd(), &mut buffer).unwrap();
        let others: Vec<_> = (0..3).map(|_| receiving(&reading, &reader)).collect();
        reading.give_up(rustix::io::Errno::NODEV);
        drop(writer);
        for other in others {
            assert_eq!(other.recv().unwrap().1.unwrap(), 0);
        }
    }

    #[test]
    fn an_error_is_passed_on_and_the_turn_with_it() {
        let (reading, reader, mut writer) = session();
        let mut buffer = [MaybeUninit::uninit(); 1];
        let error = reading.receive(writer.as_fd(), &mut buffer).unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::EBADF));
        writer.write_all(b"x").unwrap();
        assert_eq!(receiving(&reading, &reader).recv().unwrap().1.unwrap(), 1);
    }

    #[test]
    fn patience_grows_with_short_waits_and_ends_with_a_long_one() {
        let mut patience = Duration::ZERO;
        for (waited_us, expected) in [(20, SHORTEST), (20, SHORTEST), (80, LONGEST), (100, LONGEST)]
        {
            patience = after(patience, Duration::from_micros(waited_us));
            assert_eq!(patience, if has_cpus_to_spare() { expected } else { Duration::ZERO });
        }
        assert_eq!(after(patience, Duration::from_millis(1)), Duration::ZERO);
    }
}
