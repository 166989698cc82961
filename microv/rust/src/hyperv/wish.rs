//! What a guest wants of the root, by an MSR. The instruction has ended; the guest goes on when the root
//! lets it.

/// One wish.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// The guest has crashed; the MSRs say how.
    Crash,
    /// The system is to be reset.
    Reset,
    /// The synthetic interrupt controller has changed.
    Synic(SynicWish),
    /// The debugger's interface.
    Debug(DebugWish),
}

/// The MSRs of the synthetic interrupt controller.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynicWish {
    /// The one that was written.
    pub msr: u32,
    /// HV_X64_MSR_SCONTROL.
    pub control: u64,
    /// HV_X64_MSR_SIEFP.
    pub event_page: u64,
    /// HV_X64_MSR_SIMP.
    pub message_page: u64,
}

/// The MSRs of the debugger's interface.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct DebugWish {
    /// The one that was written.
    pub msr: u32,
    /// HV_X64_MSR_SYNDBG_CONTROL.
    pub control: u64,
    /// HV_X64_MSR_SYNDBG_STATUS.
    pub status: u64,
    /// HV_X64_MSR_SYNDBG_SEND_BUFFER.
    pub send_page: u64,
    /// HV_X64_MSR_SYNDBG_RECV_BUFFER.
    pub receive_page: u64,
    /// HV_X64_MSR_SYNDBG_PENDING_BUFFER.
    pub pending_page: u64,
}

/// Those that wait; of each kind the last counts.
#[derive(Debug, Default)]
pub struct Wishes {
    crash: bool,
    reset: bool,
    other: Option<Wish>,
}

impl Wishes {
    /// Adds one.
    pub fn add(&mut self, request: Wish) {
        match request {
            Wish::Crash => self.crash = true,
            Wish::Reset => self.reset = true,
            other => self.other = Some(other),
        }
    }

    /// Takes one, in the order of KVM.
    pub fn take(&mut self) -> Option<Wish> {
        if std::mem::take(&mut self.crash) {
            return Some(Wish::Crash);
        }
        if std::mem::take(&mut self.reset) {
            return Some(Wish::Reset);
        }
        self.other.take()
    }
}
