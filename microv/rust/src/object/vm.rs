//! VM: guest-physical memory, and the vCPUs which cache translations of it.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use cpu_engine::{CodeLimit, MsrFilter, MsrRules, TscClock};

use super::members::Members;
use super::memory::Memory;
use super::presence::Presence;
use crate::abi::quirk::MV_QUIRK_ALL;
use crate::clock::Clock;
use crate::hyperv::Partition;
use crate::irqchip::pit::PitTimer;
use crate::irqchip::x2apic_format::X2apicFormat;
use crate::irqchip::{Irqchip, Model};
use crate::runs::{Change, Run, Runs};

/// Time one map or unmap call may take before it answers "call again": what the Hyper-V TLFS allows a
/// hypercall.
const DEFAULT_TIME_BUDGET_NS: u64 = 50_000;

/// A guest VM.
#[derive(Debug)]
pub struct Vm {
    id: u16,
    /// The page maps.
    pub memory: Memory,
    /// VPs, and the map or unmap under way: destruction waits for both.
    pub members: Members,
    /// Its interrupt controllers, if it has any.
    pub irqchip: OnceLock<Irqchip>,
    /// How devices' messages name its local APICs.
    pub x2apic_format: Arc<X2apicFormat>,
    /// Its timer, if it has one.
    pub pit: OnceLock<Arc<PitTimer>>,
    /// What the translated code of its VSs may take.
    pub code_limit: Arc<CodeLimit>,
    runs: Mutex<Runs>,
    /// Replaced as a whole, so that who goes through them holds no lock.
    vcpus: RwLock<Arc<[Arc<Presence>]>>,
    /// A map or unmap call is under way, perhaps between two of its continuations.
    mapping: AtomicBool,
    time_budget_ns: AtomicU64,
    /// A vCPU has lost its state.
    lost: AtomicBool,
    tsc: OnceLock<TscClock>,
    clock: Mutex<Clock>,
    /// Counts the changes of the clock, so that a vCPU looks at it only then.
    clock_changes: AtomicU64,
    /// Where the guest has its paravirtual wall clock.
    pub wall_clock: AtomicU64,
    /// What its processors share as a partition of Hyper-V.
    pub hyperv: Partition,
    /// MV_HYPERCALL_LEAVE_*
    pub hypercalls_that_leave: AtomicU64,
    /// MV_QUIRK_*
    quirks: AtomicU64,
    msr_rules: Mutex<MsrRules>,
    msr_filter: Mutex<MsrFilter>,
    flush_requests: AtomicU64,
    flushes: AtomicU64,
    /// Counts the changes of the rules, so that a vCPU looks at them only then.
    msr_changes: AtomicU64,
}

impl Vm {
    /// A VM without memory.
    pub fn new(id: u16) -> Vm {
        Vm {
            id,
            memory: Memory::default(),
            members: Members::default(),
            irqchip: OnceLock::new(),
            x2apic_format: Arc::default(),
            pit: OnceLock::new(),
            code_limit: Arc::default(),
            runs: Mutex::default(),
            vcpus: RwLock::default(),
            mapping: AtomicBool::new(false),
            time_budget_ns: AtomicU64::new(DEFAULT_TIME_BUDGET_NS),
            lost: AtomicBool::new(false),
            tsc: OnceLock::new(),
            clock: Mutex::default(),
            clock_changes: AtomicU64::new(0),
            wall_clock: AtomicU64::new(0),
            hyperv: Partition::default(),
            hypercalls_that_leave: AtomicU64::new(0),
            quirks: AtomicU64::new(MV_QUIRK_ALL),
            msr_rules: Mutex::default(),
            msr_filter: Mutex::default(),
            flush_requests: AtomicU64::new(0),
            flushes: AtomicU64::new(0),
            msr_changes: AtomicU64::new(0),
        }
    }

    /// With another limit than the default.
    #[must_use]
    pub fn with_code_limit(mut self, limit: CodeLimit) -> Vm {
        self.code_limit = Arc::new(limit);
        self
    }

    /// vmid.
    pub fn id(&self) -> u16 {
        self.id
    }

    /// What is mapped.
    pub fn runs(&self) -> MutexGuard<'_, Runs> {
        // A panic in the table leaves it as consistent as a panic anywhere else in the VM would.
        self.runs.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is mapped of these runs.
    pub fn pieces(&self, runs: &[Run]) -> Vec<Run> {
        let table = self.runs();
        runs.iter().flat_map(|run| table.pieces(run.gpa, run.bytes)).collect()
    }

    /// Enters a run whose pages are free; its bus errors are repaired from now on.
    pub fn insert_run(&self, run: Run) {
        guard(&self.runs().insert(run));
    }

    /// Forgets the run of pages, which no vCPU uses any more.
    pub fn remove_run(&self, gpa: u64, bytes: u64) {
        guard(&self.runs().remove(gpa, bytes));
    }

    /// Whether the root has no interrupts to bring: the 8259A pair is here.
    pub fn has_pic(&self) -> bool {
        self.irqchip.get().is_some_and(|irqchip| irqchip.model() == Model::Full)
    }

    /// Asks every vCPU with `ask`, which is to make it forget something, and returns those that have
    /// yet to do so.
    pub fn have_forget(&self, ask: impl Fn(&Presence)) -> Vec<Arc<Presence>> {
        let mut missing = self.vcpus().to_vec();
        missing.iter().for_each(|vcpu| ask(vcpu));
        missing.retain(|vcpu| !vcpu.has_forgotten());
        self.flush_requests.fetch_add(1, Ordering::Relaxed);
        self.flushes.fetch_add(u64::from(!missing.is_empty()), Ordering::Relaxed);
        missing
    }

    /// How often vCPUs were asked to forget something, and how often one had to be waited for.
    pub fn flush_counts(&self) -> (u64, u64) {
        (self.flush_requests.load(Ordering::Relaxed), self.flushes.load(Ordering::Relaxed))
    }

    /// The vCPUs that exist now.
    pub fn vcpus(&self) -> Arc<[Arc<Presence>]> {
        Arc::clone(&self.vcpus.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// Makes a vCPU take part in flushes.
    pub fn add_vcpu(&self, vcpu: Arc<Presence>) {
        self.change_vcpus(|vcpus| vcpus.push(vcpu));
    }

    /// The vCPU is gone.
    pub fn remove_vcpu(&self, vcpu: &Arc<Presence>) {
        self.change_vcpus(|vcpus| vcpus.retain(|other| !Arc::ptr_eq(other, vcpu)));
    }

    /// Time for one map or unmap call.
    pub fn time_budget(&self) -> Duration {
        Duration::from_nanos(self.time_budget_ns.load(Ordering::Relaxed))
    }

    /// Changes the time budget.
    pub fn set_time_budget_ns(&self, ns: u64) {
        self.time_budget_ns.store(ns, Ordering::Relaxed);
    }

    /// The time-stamp counter which all vCPUs share; it starts, at `khz`, when this is first asked for.
    pub fn tsc(&self, khz: u32) -> TscClock {
        *self.tsc.get_or_init(|| TscClock::new(khz))
    }

    /// A vCPU has lost its state: nothing of the VM runs any more.
    pub fn is_lost(&self) -> bool {
        self.lost.load(Ordering::Acquire)
    }

    /// Ends the VM's running, that of vCPUs on other threads too.
    pub fn lose(&self) {
        self.lost.store(true, Ordering::Release);
        self.vcpus().iter().for_each(|vcpu| vcpu.ask_for_exit());
    }

    /// A copy of the clock that all vCPUs share.
    pub fn clock(&self) -> Clock {
        *self.clock.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the clock. A vCPU that runs leaves, and tells its guest when it is run again.
    pub fn change_clock(&self, change: impl FnOnce(&mut Clock)) {
        change(&mut self.clock.lock().unwrap_or_else(PoisonError::into_inner));
        self.clock_changes.fetch_add(1, Ordering::Release);
        self.vcpus().iter().for_each(|vcpu| vcpu.ask_for_exit());
    }

    /// Lets the clock count from now on if it has counted from one base for longer than `ns`.
    pub fn renew_clock_base(&self, ns: u64) {
        if self.clock.lock().unwrap_or_else(PoisonError::into_inner).move_base(ns) {
            self.clock_changes.fetch_add(1, Ordering::Release);
        }
    }

    /// Somebody whose clock is computed from the VM's has changed.
    pub fn note_clock_change(&self) {
        self.clock_changes.fetch_add(1, Ordering::Release);
    }

    /// The time-stamp counters of all vCPUs gain the same.
    pub fn has_one_tsc_frequency(&self) -> bool {
        let vcpus = self.vcpus();
        let mut all = vcpus.iter().map(|vcpu| vcpu.tsc_khz.load(Ordering::Relaxed));
        let first = all.next();
        all.all(|khz| Some(khz) == first)
    }

    /// The time-stamp counters of all vCPUs are one.
    pub fn has_one_tsc(&self) -> bool {
        let vcpus = self.vcpus();
        let mut all = vcpus.iter().map(|vcpu| vcpu.tsc_offset.load(Ordering::Relaxed));
        let first = all.next();
        self.has_one_tsc_frequency() && all.all(|offset| Some(offset) == first)
    }

    /// How often the clock was changed.
    pub fn clock_changes(&self) -> u64 {
        self.clock_changes.load(Ordering::Acquire)
    }

    /// The MSR filter that is not complete.
    pub fn msr_filter_in_the_making(&self) -> MutexGuard<'_, MsrFilter> {
        self.msr_filter.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the rules for RDMSR and WRMSR. A vCPU that runs leaves, and follows them when it is run
    /// again.
    pub fn change_msr_rules(&self, change: impl FnOnce(&mut MsrRules)) {
        change(&mut self.msr_rules.lock().unwrap_or_else(PoisonError::into_inner));
        self.msr_changes.fetch_add(1, Ordering::Release);
        self.vcpus().iter().for_each(|vcpu| vcpu.ask_for_exit());
    }

    /// MV_QUIRK_*
    pub fn quirks(&self) -> u64 {
        self.quirks.load(Ordering::Acquire)
    }

    /// Replaces MV_QUIRK_*. A vCPU that runs leaves, and follows them when it is run again.
    pub fn set_quirks(&self, quirks: u64) {
        self.quirks.store(quirks, Ordering::Release);
        self.vcpus().iter().for_each(|vcpu| vcpu.kick.exit());
    }

    /// The rules, if they have changed since `seen`, which is set to now.
    pub fn new_msr_rules(&self, seen: &mut u64) -> Option<MsrRules> {
        let changes = self.msr_changes.load(Ordering::Acquire);
        let rules = || self.msr_rules.lock().unwrap_or_else(PoisonError::into_inner).clone();
        (std::mem::replace(seen, changes) != changes).then(rules)
    }

    fn change_vcpus(&self, change: impl FnOnce(&mut Vec<Arc<Presence>>)) {
        let mut vcpus = self.vcpus.write().unwrap_or_else(PoisonError::into_inner);
        let mut changed = vcpus.to_vec();
        change(&mut changed);
        *vcpus = changed.into();
    }
}

impl Drop for Vm {
    fn drop(&mut self) {
        for run in self.runs().all() {
            cpu_mem::unregister_range(run.hva, run.bytes);
        }
    }
}

/// Keeps the ranges whose bus errors are repaired equal to the runs: new ones first, so that no page
/// is without the guard in between.
fn guard(change: &Change) {
    for run in &change.come {
        cpu_mem::register_range(run.hva, run.bytes);
    }
    for run in &change.gone {
        cpu_mem::unregister_range(run.hva, run.bytes);
    }
}

/// The right to change what is mapped in a VM; one at a time, and the VM stays while it is held.
#[derive(Debug)]
pub struct MapClaim(Arc<Vm>);

impl MapClaim {
    /// Claims the VM; `None` while another holds it, or where the VM is being destroyed.
    pub fn new(vm: Arc<Vm>) -> Option<MapClaim> {
        if !vm.members.join() {
            return None;
        }
        if vm.mapping.swap(true, Ordering::AcqRel) {
            vm.members.leave();
            return None;
        }
        Some(MapClaim(vm))
    }

    /// The claimed VM.
    pub fn vm(&self) -> &Vm {
        &self.0
    }
}

impl Drop for MapClaim {
    fn drop(&mut self) {
        self.0.mapping.store(false, Ordering::Release);
        self.0.members.leave();
    }
}
