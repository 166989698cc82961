//! The virtual processor: what it owns, power-on and INIT.

use std::sync::Arc;

use cpu_defs::CpuidBit;
use cpu_interp::{Cpu, FpuState, Interp, TscClock};
use cpu_mem::PhysMap;
use cpu_mmu::Forget;
use cpu_translate::CodeLimit;

use crate::complete::Unfinished;
use crate::events::Queue;
use crate::tier::Tier;
use crate::trace::Trace;
use crate::{Counters, CpuidEntry, HostDebug, Kick, MsrRules, Quirks, Withheld};

/// One virtual processor.
pub struct Vcpu {
    pub(crate) interp: Interp,
    pub(crate) tier: Tier,
    pub(crate) code_limit: Arc<CodeLimit>,
    pub(crate) kick: Arc<Kick>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) trace: Arc<Trace>,
    pub(crate) queue: Queue,
    pub(crate) unfinished: Option<Unfinished>,
    /// The host has set a control register since the guest last ran.
    pub(crate) paging_changed: bool,
    /// The host has set the PDPTE registers since then, so that they are not to be loaded.
    pub(crate) pdptes_given: bool,
    /// What [`crate::Exit::Lost`] says.
    pub(crate) lost: bool,
    /// See [`Self::begin_turn`].
    pub(crate) in_turn: bool,
}

impl Vcpu {
    /// A processor in the state after power-up (SDM volume 3, "Processor State After Reset").
    ///
    /// `cpuid` is what the guest's CPUID shows; an empty table answers zeros and hides no
    /// instruction.
    #[must_use]
    pub fn new(mem: Arc<PhysMap>, kick: Arc<Kick>, cpuid: Vec<CpuidEntry>, tsc: TscClock) -> Vcpu {
        let interp = Interp::new(Cpu::new(mem, cpuid, tsc));
        let asked = Arc::clone(&kick);
        interp.cpu.memory.shared_code.on_call(move || asked.catch_up());
        Vcpu {
            trace: Arc::default(),
            counters: Arc::new(Counters::new(&interp)),
            interp,
            tier: Tier::default(),
            code_limit: Arc::default(),
            kick,
            queue: Queue::default(),
            unfinished: None,
            paging_changed: false,
            pdptes_given: false,
            lost: false,
            in_turn: false,
        }
    }

    /// Gives system management mode an address space of its own; without, it has that of the other
    /// modes.
    #[must_use]
    pub fn with_smm_memory(mut self, mem: Arc<PhysMap>) -> Vcpu {
        self.cpu_mut().memory.set_smm_map(mem);
        self
    }

    /// Has translated code take no more memory than the processors of `limit` may have together; without,
    /// it has a limit of its own.
    #[must_use]
    pub fn with_code_limit(mut self, limit: Arc<CodeLimit>) -> Vcpu {
        self.code_limit = limit;
        self
    }

    /// INIT: the power-up state, but MSRs, x87 and SSE registers and CR0.CD and CR0.NW are kept.
    /// It ends system management mode. Pending events and an unfinished instruction are dropped.
    pub fn init_reset(&mut self) {
        if self.cpu().arch.smm {
            self.interp.set_smm(false);
        }
        let cpu = self.cpu_mut();
        cpu.arch = cpu.arch.after_init();
        cpu.reset_smi_count();
        cpu.refresh_paging();
        cpu.memory.mmio.forget_reads();
        cpu.memory.mmio.forget_writes();
        cpu.ports.clear();
        self.queue = Queue::default();
        self.unfinished = None;
    }

    /// What it has done so far, for any thread to read.
    #[must_use]
    pub fn counters(&self) -> Arc<Counters> {
        Arc::clone(&self.counters)
    }

    /// Its trace, for any thread to switch and read.
    #[must_use]
    pub fn trace(&self) -> Arc<Trace> {
        Arc::clone(&self.trace)
    }

    /// Forgets translations of the guest's linear addresses, as if it had flushed them itself.
    pub fn forget(&mut self, forget: &Forget) {
        let cpu = self.cpu_mut();
        cpu.memory.tlb.forget_for_others(forget);
        cpu.hear_of_code();
    }

    /// Whether a translation of the page around a linear address is cached for a process-context
    /// identifier.
    #[must_use]
    pub fn knows_page(&self, pcid: u16, gla: u64) -> bool {
        self.cpu().memory.tlb.knows(pcid, gla)
    }

    /// The instruction by which the guest calls its host.
    #[must_use]
    pub fn host_call(&self) -> [u8; 3] {
        self.cpu().host_call()
    }

    /// Replaces what CPUID shows.
    pub fn set_cpuid(&mut self, cpuid: Vec<CpuidEntry>) {
        self.cpu_mut().set_cpuid(cpuid);
        // Which instructions exist may have changed.
        self.interp.flush();
    }

    /// Keeps something from the guest that the processor has, in place of what was kept so far.
    pub fn withhold(&mut self, withheld: Withheld) {
        self.cpu_mut().withheld = withheld;
    }

    /// What CPUID shows.
    #[must_use]
    pub fn cpuid(&self) -> &[CpuidEntry] {
        &self.cpu().cpuid
    }

    /// Whether CPUID shows this bit.
    #[must_use]
    pub fn announces(&self, bit: CpuidBit) -> bool {
        self.cpu().features.has(bit)
    }

    /// The guest's time-stamp counter.
    #[must_use]
    pub fn tsc(&self) -> u64 {
        self.cpu().tsc()
    }

    /// The guest's time-stamp counter at a count of the host's.
    #[must_use]
    pub fn tsc_at(&self, host_tsc: u64) -> u64 {
        self.cpu().clock.at(host_tsc).wrapping_add(self.cpu().tsc_offset)
    }

    /// The clock of the time-stamp counter.
    #[must_use]
    pub fn tsc_clock(&self) -> TscClock {
        self.cpu().clock
    }

    /// Replaces the clock; the guest's count goes on from its present value.
    pub fn set_tsc_clock(&mut self, clock: TscClock) {
        let cpu = self.cpu_mut();
        let now = cpu.tsc();
        cpu.clock = clock;
        cpu.tsc_offset = now.wrapping_sub(clock.now());
    }

    /// The x87 and vector registers.
    #[must_use]
    pub fn fpu(&self) -> &FpuState {
        &self.cpu().fpu
    }

    /// The x87 and vector registers, to be changed. Reserved bits are the caller's care.
    pub fn fpu_mut(&mut self) -> &mut FpuState {
        &mut self.cpu_mut().fpu
    }

    /// Steps and breakpoints of a debugger of the host, seen as [`crate::Exit::Debug`].
    pub fn set_host_debug(&mut self, wishes: HostDebug) {
        self.cpu_mut().set_host_debug(wishes);
    }

    /// Replaces the rules for RDMSR and WRMSR; the host's own accesses are not touched by them.
    pub fn set_msr_rules(&mut self, rules: MsrRules) {
        self.cpu_mut().msr_rules = rules;
    }

    /// Sets where the processor differs from a bare one.
    pub fn set_quirks(&mut self, quirks: Quirks) {
        self.cpu_mut().quirks = quirks;
    }

    /// Changes the frequency of the clock. The guest's count jumps to what it were had the clock
    /// always run so, which keeps the vCPUs of a VM synchronised; later writes of IA32_TSC count.
    pub fn set_tsc_khz(&mut self, khz: u32) {
        let cpu = self.cpu_mut();
        cpu.clock = cpu.clock.with_khz(khz);
    }

    /// Says what IA32_APIC_BASE holds, where the local APIC is somebody else's: CPUID shows whether
    /// it is enabled.
    pub fn note_apic_base(&mut self, value: u64) {
        self.cpu_mut().arch.msrs.apic_base = value;
    }

    /// What the guest's time-stamp counter is ahead of the host's, once that is scaled.
    #[must_use]
    pub fn tsc_offset(&self) -> u64 {
        self.cpu().clock.offset().wrapping_add(self.cpu().tsc_offset)
    }

    /// Moves the guest's counter so far ahead of the host's. IA32_TSC_ADJUST keeps its value.
    pub fn set_tsc_offset(&mut self, offset: u64) {
        let cpu = self.cpu_mut();
        cpu.tsc_offset = offset.wrapping_sub(cpu.clock.offset());
    }

    pub(crate) fn cpu(&self) -> &Cpu {
        &self.interp.cpu
    }

    pub(crate) fn cpu_mut(&mut self) -> &mut Cpu {
        &mut self.interp.cpu
    }
}
