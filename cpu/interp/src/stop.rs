//! Why an instruction did not complete.

use cpu_defs::{Exception, vector};

/// An instruction that ends so has changed nothing (string instructions: nothing of the present
/// iteration), and RIP is put back to its start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stop {
    /// It raised an exception.
    Fault(Exception),
    /// The outside has to act first; [`crate::Cpu::request`] says what.
    Exit,
    /// The interpreter cannot execute it.
    Unsupported,
    /// Triple fault.
    Shutdown,
}

impl From<Exception> for Stop {
    #[cold]
    fn from(exception: Exception) -> Self {
        Stop::Fault(exception)
    }
}

/// Outcome of an instruction.
pub type Done = Result<(), Stop>;

/// #GP with this error code.
#[cold]
pub(crate) fn gp<T>(error_code: u32) -> Result<T, Stop> {
    Err(Stop::Fault(Exception::gp(error_code)))
}

/// #NM.
#[cold]
pub(crate) fn nm<T>() -> Result<T, Stop> {
    Err(Stop::Fault(Exception::plain(vector::NM)))
}

/// #UD.
#[cold]
pub(crate) fn ud<T>() -> Result<T, Stop> {
    Err(Stop::Fault(Exception::ud()))
}
