//! One processor: registers, derived mode, memory, and what it asks of the outside.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering, fence};

use cpu_defs::{CpuidEntry, Gpr, SegReg, cpuid_bit, rflags};
use cpu_host::FpuState;
use cpu_mem::PhysMap;
use cpu_mmu::{ControlRegisters, Paging, Pdptes, is_canonical};

use crate::clock::TscClock;
use crate::debug::{HostDebug, Watch};
use crate::exec::{HypercallAnswer, MsrStore};
use crate::features::Features;
use crate::int::Int;
use crate::memory::Memory;
use crate::mmio::MmioAccess;
use crate::mode::Mode;
use crate::msr_rules::{MsrAnswer, MsrReason, MsrRules, PlatformMsrs};
use crate::native::Native;
use crate::op::Op;
use crate::ports::PortInput;
use crate::quirks::Quirks;
use crate::state::{Arch, Shadow};
use crate::withheld::Withheld;

/// What the processor wants from the outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Request {
    /// HLT was executed.
    Hlt,
    /// Read `count` elements from a port, then run the instruction again.
    PortIn {
        /// Port.
        port: u16,
        /// Bytes per element.
        size: u8,
        /// Elements.
        count: u32,
    },
    /// Write one element to a port. `resume_len` is the length of an OUT that is still to be
    /// stepped over; zero for OUTS, which is complete.
    PortOut {
        /// Port.
        port: u16,
        /// Bytes.
        size: u8,
        /// The element.
        value: u32,
        /// Bytes to advance RIP by at completion.
        resume_len: u8,
    },
    /// Read device memory, then run the instruction again.
    MmioRead(MmioAccess),
    /// Device writes are queued in [`crate::mmio::Mmio`].
    MmioWrite,
    /// An MSR access that somebody outside of the processor answers; the instruction runs again with an
    /// [`crate::MsrAnswer`].
    Msr {
        /// The MSR.
        index: u32,
        /// What a write wants there.
        value: Option<u64>,
        /// Why.
        reason: MsrReason,
    },
    /// An access to memory that is refused, at this guest-physical address.
    Refused {
        /// Offset in the page included.
        gpa: u64,
    },
    /// A call of the host; the instruction runs again with [`Cpu::hypercall_answer`].
    Hypercall,
    /// A debugger of the host wants to know: #DB with its causes as bits of DR6, or #BP with RIP at
    /// the INT3.
    Debug {
        /// 1 or 3.
        vector: u8,
        /// Bits of DR6.
        causes: u64,
    },
}

/// One processor.
pub struct Cpu {
    /// Architectural registers.
    pub arch: Arch,
    /// Derived from `arch`.
    pub mode: Mode,
    /// Guest memory as this processor sees it.
    pub memory: Memory,
    /// x87 and vector registers.
    pub fpu: FpuState,
    /// Instructions that the host executes on them.
    pub native: Native,
    /// What CPUID shows.
    pub cpuid: Vec<CpuidEntry>,
    /// What its host keeps from the guest.
    pub withheld: Withheld,
    /// What `cpuid` means to the interpreter.
    pub features: Features,
    /// Time-stamp counter.
    pub clock: TscClock,
    /// Added to the clock by writes of the TSC.
    pub tsc_offset: u64,
    /// MSRs that are no more than storage.
    pub msr_store: MsrStore,
    /// Answer to a port read that is being completed.
    pub ports: PortInput,
    /// Leave the block after this instruction: a request waits, code was overwritten, or an
    /// interrupt may be possible now.
    pub attention: bool,
    /// RIP of the instruction behind which a block was left so, when that happened last.
    pub attention_rip: u64,
    /// Set with `attention`, or with [`crate::Stop::Exit`].
    pub request: Option<Request>,
    /// An interrupt waits for RFLAGS.IF, so a change of it needs attention.
    pub watch_interrupt_flag: bool,
    /// Page faults of the guest, those included that became another exception. The processor's own
    /// thread counts; any thread may read.
    pub page_faults: Arc<AtomicU64>,
    /// Moves on when cached code positions may be wrong: a change of translation, another
    /// processor's stores, overwritten code.
    pub epoch: u32,
    /// Moves on, with `epoch`, when cached code may differ from memory and nobody has told which.
    pub code_epoch: u32,
    /// Decoded code is that of another address space; set with `attention` or by a shutdown.
    pub(crate) code_is_void: bool,
    /// The instruction suppresses a pending single-step trap.
    pub inhibit_trap: bool,
    /// Breakpoints, decoded from the debug registers.
    pub watch: Watch,
    /// The rules for RDMSR and WRMSR.
    pub msr_rules: MsrRules,
    /// MSRs of devices beside the processor.
    pub platform_msrs: PlatformMsrs,
    /// The answer from outside to the access that runs again.
    pub msr_answer: Option<MsrAnswer>,
    /// The host's answer to the hypercall that runs again.
    pub hypercall_answer: Option<HypercallAnswer>,
    /// Where this processor differs from a bare one.
    pub quirks: Quirks,
    /// What a debugger of the host asks for; set by [`Self::set_host_debug`].
    pub host_debug: HostDebug,
    /// A task switch has passed its commit point: a fault is raised in the new task, and nothing
    /// is put back. True only on the way from such a fault to its delivery.
    pub task_switched: bool,
}

impl Cpu {
    /// A processor after power-up.
    #[must_use]
    pub fn new(mem: Arc<PhysMap>, cpuid: Vec<CpuidEntry>, clock: TscClock) -> Self {
        let arch = Arch::power_on();
        let features = Features::of(&cpuid);
        let mut cpu = Cpu {
            mode: Mode::of(&arch),
            memory: Memory::new(mem),
            arch,
            fpu: FpuState::at_reset(),
            native: Native::new(),
            cpuid,
            withheld: Withheld::default(),
            features,
            clock,
            tsc_offset: 0,
            msr_store: MsrStore::default(),
            ports: PortInput::default(),
            attention: false,
            attention_rip: 0,
            request: None,
            watch_interrupt_flag: false,
            page_faults: Arc::default(),
            epoch: 0,
            code_epoch: 0,
            code_is_void: false,
            inhibit_trap: false,
            watch: Watch::default(),
            msr_rules: MsrRules::default(),
            platform_msrs: PlatformMsrs::default(),
            msr_answer: None,
            hypercall_answer: None,
            quirks: Quirks::default(),
            host_debug: HostDebug::default(),
            task_switched: false,
        };
        cpu.refresh_paging();
        cpu
    }

    /// Recomputes the mode after a change of CR0.PE, EFER.LMA, RFLAGS.VM or AC, CPL or a segment.
    pub fn refresh(&mut self) {
        self.mode = Mode::of(&self.arch);
    }

    /// As [`Self::refresh`], after a change of CS, SS, CPL and RFLAGS alone, as by most exceptions and
    /// returns from them.
    pub(crate) fn refresh_code_and_stack(&mut self) {
        self.mode = self.mode.with_code_and_stack(&self.arch);
    }

    /// Recomputes mode and paging after a change of CR0, CR3, CR4 or EFER, and drops every
    /// cached translation.
    pub fn refresh_paging(&mut self) {
        self.refresh();
        self.memory.paging = self.paging();
        self.enter_space();
        self.memory.tlb.set_pkru(self.arch.pkru);
        self.refresh_breakpoints();
        self.flush_translations();
    }

    /// After the guest wrote CR0, CR4 or EFER: cached translations go if they may differ now.
    pub(crate) fn refresh_control(&mut self) {
        self.refresh();
        let paging = self.paging();
        if self.memory.paging != paging {
            self.memory.paging = paging;
            self.enter_space();
            self.memory.tlb.flush_all();
        }
        self.serialize_fully();
    }

    /// After a write of CR3. Global pages stay; with `keep` all translations of the new
    /// process-context identifier do.
    pub(crate) fn refresh_cr3(&mut self, keep: bool) {
        self.memory.paging = self.paging();
        self.enter_space();
        if !keep {
            self.memory.tlb.flush_non_global();
        }
        self.serialize();
    }

    /// Makes the translations of CR3 the ones that are looked at.
    fn enter_space(&mut self) {
        let paging = &self.memory.paging;
        self.memory.tlb.activate(paging.pcid);
        self.memory.tlb.enter_space(paging.cr3 & cpu_mmu::ROOT);
    }

    /// What frequent serializing instructions do (SDM volume 3, "Serializing Instructions"): earlier
    /// stores are visible to all before what follows, and code that others have written takes effect.
    pub(crate) fn serialize(&mut self) {
        fence(Ordering::SeqCst);
        self.hear_of_code();
    }

    /// As [`Self::serialize`], for instructions that a guest seldom executes: whatever threads of the
    /// host have written takes effect, too.
    pub(crate) fn serialize_fully(&mut self) {
        fence(Ordering::SeqCst);
        self.memory.shared_code.changed();
        self.distrust_code();
    }

    /// Code that other processors have written takes effect, and what the host has, if it has said so.
    pub fn hear_of_code(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        if self.memory.shared_code.changed() {
            self.distrust_code();
        }
    }

    /// All code that is cached is marked and compared with memory before it is used again.
    pub(crate) fn distrust_code(&mut self) {
        self.epoch = self.epoch.wrapping_add(1);
        self.code_epoch = self.code_epoch.wrapping_add(1);
    }

    /// Writes PKRU. Translations that allow more than it does go.
    pub fn set_pkru(&mut self, value: u32) {
        self.arch.pkru = value;
        self.memory.paging = self.paging();
        self.memory.tlb.set_pkru(value);
    }

    /// Drops every cached translation.
    pub fn flush_translations(&mut self) {
        self.memory.tlb.flush_all();
        self.epoch = self.epoch.wrapping_add(1);
    }

    /// Instructions are executed one by one: TF, RF, the shadow of STI or MOV SS, or instruction
    /// breakpoints count.
    #[inline(always)]
    #[must_use]
    pub fn is_single_stepped(&self) -> bool {
        self.arch.rflags & (rflags::TF | rflags::RF) != 0
            || self.arch.shadow != Shadow::None
            || self.watch.code
    }

    fn paging(&self) -> Paging {
        let arch = &self.arch;
        let registers = ControlRegisters {
            cr0: arch.cr0,
            cr3: arch.cr3,
            cr4: arch.cr4,
            efer: arch.efer,
            pkru: arch.pkru,
        };
        let in_memory = self.features.amd;
        let pdptes = if in_memory { Pdptes::InMemory } else { Pdptes::Registers(arch.pdptes) };
        let max_phy_addr = self.features.max_phy_addr;
        Paging {
            page_1g: self.features.has(cpuid_bit::PAGE_1GB),
            ..Paging::new(&registers, max_phy_addr, pdptes)
        }
    }

    /// Replaces the CPUID table.
    pub fn set_cpuid(&mut self, cpuid: Vec<CpuidEntry>) {
        self.features = Features::of(&cpuid);
        self.cpuid = cpuid;
        self.refresh_paging();
    }

    /// Whether a register of linear addresses (segment bases, table bases, MSRs) and INVPCID take
    /// the value. They go by the width that the processor has, not by CR4.LA57.
    pub(crate) fn is_canonical_base(&self, value: u64) -> bool {
        is_canonical(value, self.features.has(cpuid_bit::LA57))
    }

    /// The six status flags, as the ALU wants them.
    #[inline(always)]
    pub(crate) fn status(&self) -> u32 {
        self.arch.rflags as u32 & rflags::STATUS as u32
    }

    /// Replaces the six status flags.
    #[inline(always)]
    pub(crate) fn set_status(&mut self, flags: u32) {
        self.arch.rflags = (self.arch.rflags & !rflags::STATUS) | u64::from(flags);
    }

    /// Reads a register by operand number.
    #[inline(always)]
    pub(crate) fn get<T: Int>(&self, number: u8) -> T {
        T::get(&self.arch.slots, number)
    }

    /// Writes a register by operand number.
    #[inline(always)]
    pub(crate) fn set<T: Int>(&mut self, number: u8, value: T) {
        T::set(&mut self.arch.slots, number, value);
    }

    /// A number in the lower halves of two registers.
    pub(crate) fn pair(&self, high: Gpr, low: Gpr) -> u64 {
        u64::from(self.get::<u32>(high as u8)) << 32 | u64::from(self.get::<u32>(low as u8))
    }

    /// EDX:EAX.
    pub(crate) fn edx_eax(&self) -> u64 {
        self.pair(Gpr::Rdx, Gpr::Rax)
    }

    /// Writes EDX:EAX; the upper halves of both registers become zero.
    pub(crate) fn set_edx_eax(&mut self, value: u64) {
        self.set(Gpr::Rax as u8, value as u32);
        self.set(Gpr::Rdx as u8, (value >> 32) as u32);
    }

    /// Offset of the memory operand in its segment.
    #[inline(always)]
    pub(crate) fn offset(&self, op: &Op) -> u64 {
        let slots = &self.arch.slots;
        let base = slots[usize::from(op.base & 31)];
        let index = slots[usize::from(op.index & 31)] << (op.scale & 3);
        base.wrapping_add(index).wrapping_add(op.disp) & op.address_mask
    }

    /// Linear address of the next instruction.
    #[inline(always)]
    #[must_use]
    pub fn linear_rip(&self) -> u64 {
        if self.mode.code64 {
            self.arch.rip()
        } else {
            let base = self.arch.segment(SegReg::Cs).base;
            base.wrapping_add(self.arch.rip()) & 0xFFFF_FFFF
        }
    }

    /// Forgets what instructions that did not complete, or were undone, have asked of the outside.
    pub fn forget_access(&mut self) {
        self.request = None;
        self.memory.mmio.forget_writes();
        self.memory.mmio.forget_reads();
        self.ports.clear();
        self.watch.forget_hits();
    }

    /// Runs `body`; if it stops, the registers are as before.
    pub(crate) fn undoing<T>(
        &mut self,
        body: impl FnOnce(&mut Self) -> Result<T, crate::Stop>,
    ) -> Result<T, crate::Stop> {
        let saved = self.arch;
        let result = body(self);
        if result.is_err() && !self.task_switched {
            self.arch = saved;
            self.memory.mmio.forget_writes();
            self.refresh();
        }
        result
    }
}
