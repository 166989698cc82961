//! Interrupt controllers beside a processor, as the run loop asks them.

/// What came from outside since the controllers were last looked at.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Arrivals {
    /// A non-maskable interrupt.
    pub nmi: bool,
    /// A system management interrupt.
    pub smi: bool,
    /// Something that the caller of `run` has to act on first: it returns `Exit::Arrived`.
    pub leave: bool,
    /// What the task priority has been made from outside, as CR8 shows it.
    pub cr8: Option<u8>,
}

/// Interrupt controllers. Called by the thread that runs the processor.
pub trait Controllers {
    /// Looks at what has come. `tsc` is the guest's; called when asked for by `Kick::look`, and
    /// when `run` begins or system management mode ends. INIT waits while `smm`: the processor is in
    /// that mode.
    fn look(&mut self, tsc: u64, smm: bool) -> Arrivals;

    /// Whether interrupts of `Vcpu::queue_interrupt` reach the processor.
    fn accepts_external(&self) -> bool;

    /// Whether an interrupt waits that a processor with this CR8 takes.
    fn has_interrupt(&mut self, cr8: u8) -> bool;

    /// The vector of that interrupt, which is in service from now on.
    fn acknowledge(&mut self) -> Option<u8>;
}

/// No controllers: interrupts come by `queue_interrupt`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoControllers;

impl Controllers for NoControllers {
    fn look(&mut self, _: u64, _: bool) -> Arrivals {
        Arrivals::default()
    }

    fn accepts_external(&self) -> bool {
        true
    }

    fn has_interrupt(&mut self, _: u8) -> bool {
        false
    }

    fn acknowledge(&mut self) -> Option<u8> {
        None
    }
}
