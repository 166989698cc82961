//! Steal time: how long the VS was ready and the host ran others, and whether it is out of the guest.
//! `struct kvm_steal_time` in Linux, `Documentation/virt/kvm/x86/msr.rst`.
//!
//! Two threads can keep the guest waiting: the PP that executes it, and the thread of the root's that
//! wants it to be executed ([`Paravirt::wait_with`]). At no time both do.

use std::time::{Duration, Instant};

use cpu_engine::{Forget, Vcpu};
use cpu_paravirt::{features, msr, steal};

use super::Paravirt;
use super::memory::Structure;
use crate::run_delay::{RunDelay, own_grown_ns};

/// Waits are asked for no more often: that takes longer than many an exit, and hosts let threads wait
/// for longer.
const SHORTEST_LOOK: Duration = Duration::from_micros(100);
/// A VS that neither leaves nor sleeps looks so often.
const LONGEST_LOOK: Duration = Duration::from_millis(10);

/// The waits that are the guest's.
#[derive(Debug, Default)]
pub struct Waits {
    /// Those of the root's thread.
    root: Option<RunDelay>,
    /// None: what was before this look does not count.
    looked: Option<Instant>,
}

impl Waits {
    /// What was before does not count.
    pub fn begin(&mut self) {
        self.looked = None;
    }

    fn grown_ns(&mut self) -> u64 {
        if self.looked.is_some_and(|looked| looked.elapsed() < SHORTEST_LOOK) {
            return 0;
        }
        let counts = self.looked.replace(Instant::now()).is_some();
        let grown = own_grown_ns() + self.root.as_mut().map_or(0, RunDelay::grown_ns);
        if counts { grown } else { 0 }
    }
}

impl Paravirt {
    /// The guest has its steal time written.
    pub fn has_steal_time(&self) -> bool {
        self.steal_time & msr::ENABLED != 0
    }

    /// When a VS that neither leaves nor sleeps calls [`Self::end_preemption`] again.
    pub fn next_look(&self) -> Option<Instant> {
        self.has_steal_time().then(|| Instant::now() + LONGEST_LOOK)
    }

    /// The guest waits when this thread of the host does; 0 for none.
    pub fn wait_with(&mut self, thread: u32) {
        self.waits.root = RunDelay::of(thread);
    }

    /// Before the VS executes: it is here again, flushes if another VS has asked for it meanwhile, and
    /// tells how long it was kept waiting.
    pub fn end_preemption(&mut self, vcpu: &mut Vcpu) {
        let Some(memory) = self.steal_structure() else { return };
        let asked = memory.swap_byte(steal::PREEMPTED, 0);
        let may_ask = self.allowed(vcpu) & features::PV_TLB_FLUSH != 0;
        if asked & steal::VCPU_FLUSH_TLB != 0 && may_ask {
            vcpu.forget(&Forget::all());
        }
        let stolen = self.waits.grown_ns();
        memory.change(steal::VERSION, |memory| {
            let total = memory.u64(steal::STEAL).wrapping_add(stolen);
            memory.write(steal::STEAL, &total.to_le_bytes());
        });
    }

    /// The VS executes nothing before [`Self::end_preemption`]; it has ended an instruction.
    /// Whether the guest is told so, and was not before.
    pub fn begin_preemption(&self) -> bool {
        let Some(memory) = self.steal_structure() else { return false };
        let old = memory.set_bits(steal::PREEMPTED, steal::VCPU_PREEMPTED);
        old & steal::VCPU_PREEMPTED == 0
    }

    fn steal_structure(&self) -> Option<Structure> {
        let gpa = steal::address(self.steal_time);
        let mem = &self.vm.memory.normal;
        self.has_steal_time().then(|| Structure::at(mem, gpa, steal::SIZE)).flatten()
    }
}
