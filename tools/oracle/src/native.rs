//! The parent's side of the child process: hands over batches, starts it anew when it died.

use std::io::{self, Read, Write};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};

use crate::case::{Case, Outcome, end};
use crate::layout::IMAGE;
use crate::shared::{BATCH, Shared};

/// Argument that makes this program the child.
pub const CHILD_ARGUMENT: &str = "--child";

/// Deaths after which the child is given up.
const MAX_DEATHS: u32 = 1000;

/// The processor of the host.
pub struct Native {
    shared: Shared,
    process: Process,
    deaths: u32,
}

struct Process {
    child: Child,
    to: ChildStdin,
    from: ChildStdout,
}

impl Native {
    /// Starts the child with this image of memory.
    ///
    /// # Errors
    /// Those of shared memory and of starting a process.
    pub fn start(image: &[u8; IMAGE]) -> io::Result<Self> {
        let mut shared = Shared::create()?;
        shared.exchange().image = *image;
        let process = Process::spawn(shared.fd())?;
        Ok(Native { shared, process, deaths: 0 })
    }

    /// Starts a batch, of at most [`BATCH`] cases.
    ///
    /// # Errors
    /// The child's pipe is closed: it has died before.
    pub fn submit(&mut self, cases: &[Case]) -> io::Result<()> {
        assert!(cases.len() <= BATCH && !cases.is_empty());
        self.shared.exchange().cases[..cases.len()].clone_from_slice(cases);
        for outcome in &mut self.shared.exchange().outcomes[..cases.len()] {
            outcome.vector = end::DIED;
        }
        self.process.to.write_all(&[cases.len() as u8])
    }

    /// Waits for the end of the batch. The case at which the child died has no outcome; those
    /// behind it are run by a new child.
    ///
    /// # Errors
    /// A new child cannot be started.
    pub fn collect(&mut self, cases: &[Case]) -> io::Result<&[Outcome]> {
        if self.process.from.read_exact(&mut [0]).is_err() {
            let outcomes = &self.shared.exchange().outcomes[..cases.len()];
            let died = outcomes.iter().position(|one| one.vector == end::DIED);
            self.deaths += 1;
            if self.deaths > MAX_DEATHS {
                return Err(io::ErrorKind::BrokenPipe.into());
            }
            self.process = Process::spawn(self.shared.fd())?;
            let next = died.map_or(cases.len(), |died| died + 1);
            if next < cases.len() {
                return self.resume(cases, next);
            }
        }
        Ok(&self.shared.exchange().outcomes[..cases.len()])
    }

    /// Runs the cases from `next` on, keeping the outcomes before.
    fn resume(&mut self, cases: &[Case], next: usize) -> io::Result<&[Outcome]> {
        let before = self.shared.exchange().outcomes[..next].to_vec();
        self.submit(&cases[next..])?;
        let mut all = before;
        all.extend_from_slice(self.collect(&cases[next..])?);
        self.shared.exchange().outcomes[..cases.len()].clone_from_slice(&all);
        Ok(&self.shared.exchange().outcomes[..cases.len()])
    }
}

impl Process {
    fn spawn(fd: i32) -> io::Result<Self> {
        let mut child = Command::new(std::env::current_exe()?)
            .args([CHILD_ARGUMENT, &fd.to_string()])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?;
        let pipes = child.stdin.take().zip(child.stdout.take());
        let (to, from) = pipes.ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Process { child, to, from })
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have died; either way nothing is left of it.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
