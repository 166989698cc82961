//! A local APIC (SDM volume 3, "Advanced Programmable Interrupt Controller").
//!
//! Owned by its processor's thread. Messages from others come through [`Inbox`]; what a register
//! write sends out is returned as an [`Effect`].

mod access;
mod inbox;
mod message;
pub mod register;
mod timer;
mod vectors;

pub use access::IMAGE_LEN;
pub use inbox::{Inbox, Signals};
pub use message::{Address, DeliveryMode, Destination, Message, x2apic_ldr};
pub use timer::TimerMode;
pub use vectors::Vectors;

use register::{base, error};
use timer::Count;

/// Registers of 32 bits, one every 16 bytes.
const REGISTERS: usize = 64;
/// Version 14H, highest local vector table entry 5; 6 with the entry for corrected machine checks.
const VERSION: u32 = 0x5_0014;
const VERSION_WITH_CMCI: u32 = 0x6_0014;
/// Local vector table entry: unmasked, delivery mode ExtINT.
const EXT_INT: u32 = 7 << 8;
/// Priority class of a vector or priority register.
const CLASS: u8 = 0xF0;

/// What a register write wants to be done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Nothing.
    None,
    /// Send this.
    Send(Message),
    /// The interrupt of this vector has ended, which the I/O APICs hear of if it was level-triggered.
    EndOfInterrupt {
        /// Vector.
        vector: u8,
        /// Level-triggered, and broadcasts are not suppressed.
        level: bool,
    },
}

/// The register access is refused: #GP in x2APIC mode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Refused;

/// One local APIC.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lapic {
    registers: [u32; REGISTERS],
    /// IA32_APIC_BASE.
    apic_base: u64,
    /// ID that x2APIC mode shows.
    x2apic_id: u32,
    count: Count,
    /// IA32_TSC_DEADLINE; 0 if disarmed.
    tsc_deadline: u64,
    /// The TSC when the timer was last looked at.
    tsc_seen: u64,
    /// Errors since the ESR was written.
    errors: u32,
    /// The timer has TSC-deadline mode.
    has_deadline_mode: bool,
    /// There is a local vector table entry for corrected machine checks.
    cmci: bool,
    /// LINT0 of the bootstrap processor begins masked.
    masks_lint0: bool,
}

impl Lapic {
    /// After power-up. `id`: APIC ID.
    #[must_use]
    pub fn new(id: u32, apic_base: u64) -> Self {
        let mut lapic = Lapic {
            registers: [0; REGISTERS],
            apic_base,
            x2apic_id: id,
            count: Count::default(),
            tsc_deadline: 0,
            tsc_seen: 0,
            errors: 0,
            has_deadline_mode: false,
            cmci: false,
            masks_lint0: false,
        };
        lapic.reset_registers();
        lapic.set(register::ID, id << 24);
        lapic
    }

    /// LINT0 of the bootstrap processor is masked now and after each INIT, as in hardware.
    pub fn mask_lint0(&mut self) {
        self.masks_lint0 = true;
        self.set(register::LVT_LINT0, register::LVT_MASKED);
    }

    /// Whether [`Self::mask_lint0`] was called.
    #[must_use]
    pub fn masks_lint0(&self) -> bool {
        self.masks_lint0
    }

    /// INIT: as after power-up, but the ID and IA32_APIC_BASE stay.
    pub fn init(&mut self) {
        let id = self.get(register::ID);
        self.reset_registers();
        self.set(register::ID, id);
        if self.x2apic() {
            self.set(register::LDR, x2apic_ldr(self.x2apic_id));
        }
    }

    fn reset_registers(&mut self) {
        self.registers = [0; REGISTERS];
        self.set_version();
        self.set(register::DFR, u32::MAX);
        self.set(register::SVR, 0xFF);
        for lvt in self.local_vector_table() {
            self.set(lvt, register::LVT_MASKED);
        }
        if self.apic_base & base::BSP != 0 && !self.masks_lint0 {
            // Virtual wire mode, as firmware leaves it for a kernel that has no driver for the APIC;
            // KVM starts so too (KVM_X86_QUIRK_LINT0_REENABLED).
            self.set(register::LVT_LINT0, EXT_INT);
        }
        self.count = Count::default();
        self.tsc_deadline = 0;
        self.errors = 0;
    }

    /// Adds or takes away the local vector table entry for corrected machine checks, which is masked
    /// at first.
    pub fn set_cmci(&mut self, exists: bool) {
        if self.cmci != exists {
            self.cmci = exists;
            self.set(register::LVT_CMCI, if exists { register::LVT_MASKED } else { 0 });
            self.set_version();
        }
    }

    /// Says whether the timer has TSC-deadline mode. Without, its bit of the local vector table entry
    /// is reserved: written as zero, and of no effect where it was restored.
    pub fn set_has_deadline_mode(&mut self, has: bool) {
        self.has_deadline_mode = has;
    }

    fn timer_mode(&self) -> TimerMode {
        TimerMode::of(self.get(register::LVT_TIMER) & self.lvt_writable(register::LVT_TIMER))
    }

    fn set_version(&mut self) {
        self.set(register::VERSION, if self.cmci { VERSION_WITH_CMCI } else { VERSION });
    }

    /// The registers of the local vector table.
    fn local_vector_table(&self) -> impl Iterator<Item = u8> + use<> {
        let cmci = self.cmci.then_some(register::LVT_CMCI);
        (register::LVT_TIMER..=register::LVT_ERROR).chain(cmci)
    }

    /// What an entry of the local vector table sends to this processor when its source is active.
    /// None: it is masked, or the APIC is disabled.
    #[must_use]
    pub fn local_message(&self, lvt: u8) -> Option<Message> {
        let entry = self.get(lvt);
        let open = self.enabled() && entry & register::LVT_MASKED == 0;
        open.then(|| Message {
            destination: Destination::Itself,
            mode: DeliveryMode::from_bits(entry >> 8),
            vector: entry as u8,
            level: entry & register::LVT_LEVEL != 0,
            assert: true,
        })
    }

    fn get(&self, register: u8) -> u32 {
        self.registers[usize::from(register) % REGISTERS]
    }

    fn set(&mut self, register: u8, value: u32) {
        self.registers[usize::from(register) % REGISTERS] = value;
    }

    fn vectors(&self, first: u8) -> Vectors {
        let first = usize::from(first);
        let mut bits = [0; 8];
        bits.copy_from_slice(&self.registers[first..first + 8]);
        Vectors(bits)
    }

    fn set_vectors(&mut self, first: u8, vectors: Vectors) {
        let first = usize::from(first);
        self.registers[first..first + 8].copy_from_slice(&vectors.0);
    }

    /// IA32_APIC_BASE.
    #[must_use]
    pub fn apic_base(&self) -> u64 {
        self.apic_base
    }

    /// Sets IA32_APIC_BASE, already checked with [`apic_base_transition_is_legal`].
    pub fn set_apic_base(&mut self, value: u64) {
        let old = std::mem::replace(&mut self.apic_base, value);
        if value & base::ENABLED == 0 {
            self.reset_registers();
            self.set(register::ID, self.x2apic_id << 24);
        } else if value & base::X2APIC != 0 && old & base::X2APIC == 0 {
            self.set(register::LDR, x2apic_ldr(self.x2apic_id));
        }
    }

    /// IA32_APIC_BASE.EN.
    #[must_use]
    pub fn enabled(&self) -> bool {
        self.apic_base & base::ENABLED != 0
    }

    /// In x2APIC mode.
    #[must_use]
    pub fn x2apic(&self) -> bool {
        let both = base::ENABLED | base::X2APIC;
        self.apic_base & both == both
    }

    /// Enabled by IA32_APIC_BASE and by the spurious-interrupt vector register.
    #[must_use]
    pub fn software_enabled(&self) -> bool {
        self.enabled() && self.get(register::SVR) & register::SVR_ENABLED != 0
    }

    /// How others address it.
    #[must_use]
    pub fn address(&self) -> Address {
        let x2apic = self.x2apic();
        Address {
            enabled: self.enabled(),
            x2apic,
            id: if x2apic { self.x2apic_id } else { self.get(register::ID) >> 24 },
            ldr: self.get(register::LDR),
            cluster: !x2apic && self.get(register::DFR) >> 28 == 0,
        }
    }

    /// Puts what others sent into the IRR.
    pub fn take_in(&mut self, inbox: &Inbox) {
        let (requests, levels) = inbox.take_vectors();
        let mut irr = self.vectors(register::IRR);
        let mut tmr = self.vectors(register::TMR);
        for word in 0..8 {
            irr.0[word] |= requests.0[word];
            tmr.0[word] = (tmr.0[word] & !requests.0[word]) | (levels.0[word] & requests.0[word]);
        }
        self.set_vectors(register::IRR, irr);
        self.set_vectors(register::TMR, tmr);
    }

    /// Raises a vector of this processor's own.
    pub fn raise(&mut self, vector: u8) {
        if vector < 16 {
            return self.note_error(error::RECEIVED_ILLEGAL_VECTOR);
        }
        let mut irr = self.vectors(register::IRR);
        let mut tmr = self.vectors(register::TMR);
        irr.insert(vector);
        tmr.remove(vector);
        self.set_vectors(register::IRR, irr);
        self.set_vectors(register::TMR, tmr);
    }

    fn note_error(&mut self, bit: u32) {
        self.errors |= bit;
        let lvt = self.get(register::LVT_ERROR);
        if lvt & register::LVT_MASKED == 0 && lvt & 0xFF >= 16 {
            self.raise(lvt as u8);
        }
    }

    /// Processor priority: the higher class of TPR and what is in service.
    #[must_use]
    pub fn processor_priority(&self) -> u8 {
        let task = self.get(register::TPR) as u8;
        let in_service = self.vectors(register::ISR).highest().unwrap_or(0);
        if task & CLASS >= in_service & CLASS { task } else { in_service & CLASS }
    }

    /// The vector that would interrupt the processor now.
    #[must_use]
    pub fn pending(&self) -> Option<u8> {
        if !self.software_enabled() {
            return None;
        }
        let vector = self.vectors(register::IRR).highest()?;
        (vector & CLASS > self.processor_priority() & CLASS).then_some(vector)
    }

    /// Takes the pending vector into service.
    pub fn acknowledge(&mut self) -> Option<u8> {
        let vector = self.pending()?;
        let mut irr = self.vectors(register::IRR);
        let mut isr = self.vectors(register::ISR);
        irr.remove(vector);
        isr.insert(vector);
        self.set_vectors(register::IRR, irr);
        self.set_vectors(register::ISR, isr);
        Some(vector)
    }

    /// Whether any vector is requested, open to it or not.
    #[must_use]
    pub fn has_requests(&self) -> bool {
        self.vectors(register::IRR) != Vectors::default()
    }

    /// Whether a vector came level-triggered, so that an I/O APIC may wait for its end.
    #[must_use]
    pub fn is_level(&self, vector: u8) -> bool {
        self.vectors(register::TMR).contains(vector)
    }

    /// Whether the 8259A's INTR reaches the processor: through LINT0 as ExtINT, or past a disabled
    /// APIC.
    #[must_use]
    pub fn accepts_external(&self) -> bool {
        let lint0 = self.get(register::LVT_LINT0);
        let external = DeliveryMode::from_bits(lint0 >> 8) == DeliveryMode::ExtInt;
        !self.enabled() || (lint0 & register::LVT_MASKED == 0 && external)
    }

    /// The highest vector in service, and the highest that is requested.
    #[must_use]
    pub fn highest(&self) -> (Option<u8>, Option<u8>) {
        (self.vectors(register::ISR).highest(), self.vectors(register::IRR).highest())
    }

    /// The task-priority register.
    #[must_use]
    pub fn task_priority(&self) -> u8 {
        self.get(register::TPR) as u8
    }

    /// Sets the task-priority register.
    pub fn set_task_priority(&mut self, value: u8) {
        self.set(register::TPR, value.into());
    }

    /// Task priority as CR8 shows it.
    #[must_use]
    pub fn cr8(&self) -> u8 {
        self.get(register::TPR) as u8 >> 4
    }

    /// Sets the task priority by CR8.
    pub fn set_cr8(&mut self, value: u8) {
        self.set(register::TPR, u32::from(value & 0xF) << 4);
    }

    /// When the timer wants to be looked at: nanoseconds, or a value of the TSC in deadline mode.
    #[must_use]
    pub fn timer_end(&self) -> Option<TimerEnd> {
        if !self.enabled() {
            return None;
        }
        match self.timer_mode() {
            TimerMode::TscDeadline if self.tsc_deadline == 0 => None,
            TimerMode::TscDeadline => Some(TimerEnd::Tsc(self.tsc_deadline)),
            _ => self.count.end().map(TimerEnd::Time),
        }
    }

    /// Raises the timer's interrupt if its time has come.
    pub fn run_timer(&mut self, now_ns: u64, tsc: u64) {
        let seen = std::mem::replace(&mut self.tsc_seen, tsc);
        let expired = match self.timer_end() {
            Some(TimerEnd::Tsc(deadline)) if has_passed(deadline, seen, tsc) => {
                self.tsc_deadline = 0;
                true
            }
            Some(TimerEnd::Time(_)) => self.count.expire(now_ns),
            _ => false,
        };
        let lvt = self.get(register::LVT_TIMER);
        if expired && lvt & register::LVT_MASKED == 0 {
            self.raise(lvt as u8);
        }
    }

    /// IA32_TSC_DEADLINE; zero outside of deadline mode.
    #[must_use]
    pub fn tsc_deadline(&self) -> u64 {
        if self.is_in_deadline_mode() { self.tsc_deadline } else { 0 }
    }

    fn is_in_deadline_mode(&self) -> bool {
        self.enabled() && self.timer_mode() == TimerMode::TscDeadline
    }

    /// Sets IA32_TSC_DEADLINE; ignored outside of deadline mode.
    pub fn set_tsc_deadline(&mut self, value: u64) {
        if self.is_in_deadline_mode() {
            self.tsc_deadline = value;
        }
    }
}

/// When a timer ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TimerEnd {
    /// At a time in nanoseconds.
    Time(u64),
    /// At a value of the guest's TSC.
    Tsc(u64),
}

/// Whether a counter has reached `deadline`, perhaps just before it began anew: it was at `seen` before
/// it was at `tsc`.
const fn has_passed(deadline: u64, seen: u64, tsc: u64) -> bool {
    let began_anew = tsc < seen && tsc.wrapping_sub(seen) < 1 << 63;
    tsc >= deadline || (began_anew && deadline >= seen)
}

/// Whether IA32_APIC_BASE may change so ("x2APIC State Transitions").
#[must_use]
pub const fn apic_base_transition_is_legal(old: u64, new: u64) -> bool {
    const MODE: u64 = base::ENABLED | base::X2APIC;
    match (old & MODE, new & MODE) {
        (_, base::X2APIC) => false,
        // x2APIC mode is left only by disabling the APIC, and entered only from xAPIC mode.
        (MODE, base::ENABLED) | (0, MODE) => false,
        _ => true,
    }
}
