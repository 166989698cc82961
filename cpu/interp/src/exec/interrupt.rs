//! Delivery of interrupts and exceptions, INT n, INT3, INT1, INTO, BOUND.
//!
//! SDM volume 3, "Interrupt and Exception Handling"; the real-mode table is in volume 3, "8086
//! Emulation". A delivery that faults has changed nothing but CR2.

use std::sync::atomic::Ordering;

use cpu_defs::{Exception, SegReg, attrib, attrib::system_type, dr6, dr7, rflags, vector};
use iced_x86::{Instruction, Mnemonic};

use super::frame::{on_new_stack, with_ext};
use super::segment::null_stack;
use crate::cpu::Cpu;
use crate::descriptor::{Descriptor, is_null, selector_fault};
use crate::int::Int;
use crate::op::{Handler, Op};
use crate::state::{Segment, Shadow};
use crate::stop::{Done, Stop, gp};

/// Where an event comes from; decides gate privilege checks and the EXT bit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EventKind {
    /// Interrupt from outside, or NMI.
    External,
    /// Exception raised by an instruction.
    Exception,
    /// INT n, INT3, INTO.
    Software,
}

impl EventKind {
    /// EXT bit of error codes raised during delivery.
    fn ext(self) -> u32 {
        u32::from(self != EventKind::Software)
    }
}

/// IDT bit of error codes.
const IN_IDT: u32 = 2;
const SS: usize = SegReg::Ss as usize;
/// In the order in which an interrupt of virtual-8086 mode pushes them.
const DATA_SEGMENTS: [SegReg; 4] = [SegReg::Gs, SegReg::Fs, SegReg::Ds, SegReg::Es];

pub(super) fn select(instruction: &Instruction, op: &mut Op) -> Option<Handler> {
    Some(match instruction.mnemonic() {
        Mnemonic::Int => int_n,
        Mnemonic::Int3 => |cpu, _| {
            if cpu.host_debug.int3 {
                return cpu.stop_for_host(vector::BP, 0);
            }
            cpu.software_interrupt(vector::BP)
        },
        Mnemonic::Int1 => |cpu, _| {
            cpu.inhibit_trap = true;
            cpu.deliver(Exception::plain(vector::DB), EventKind::Exception)
        },
        Mnemonic::Into => into,
        Mnemonic::Bound if op.size == 2 => bound::<u16>,
        Mnemonic::Bound => bound::<u32>,
        _ => return None,
    })
}

/// INT n of virtual-8086 code is redirected, or needs IOPL 3.
fn int_n(cpu: &mut Cpu, op: &Op) -> Done {
    let vector = op.imm as u8;
    if cpu.mode.v86 {
        if cpu.redirects(vector)? {
            return cpu.redirect(vector);
        }
        if cpu.iopl() < 3 {
            return gp(0);
        }
    }
    cpu.software_interrupt(vector)
}

fn into(cpu: &mut Cpu, _: &Op) -> Done {
    if cpu.arch.rflags & rflags::OF == 0 {
        return Ok(());
    }
    cpu.software_interrupt(vector::OF)
}

fn bound<T: Int>(cpu: &mut Cpu, op: &Op) -> Done {
    let index = cpu.get::<T>(op.dst).to_i64();
    let at = cpu.offset(op);
    let upper_at = at.wrapping_add(T::SIZE as u64) & op.address_mask;
    let lower = cpu.read::<T>(op.seg, at)?.to_i64();
    let upper = cpu.read::<T>(op.seg, upper_at)?.to_i64();
    if index < lower || index > upper {
        return Err(Stop::Fault(Exception::plain(vector::BR)));
    }
    Ok(())
}

impl Cpu {
    fn software_interrupt(&mut self, vector: u8) -> Done {
        self.inhibit_trap = true;
        self.deliver(Exception::plain(vector), EventKind::Software)
    }

    /// Delivers an interrupt from outside. Exceptions on the way are delivered in turn.
    ///
    /// # Errors
    /// [`Stop::Shutdown`] and [`Stop::Unsupported`]; the state is that before the delivery.
    pub fn deliver_interrupt(&mut self, vector: u8) -> Done {
        // Another processor may have written code before it sent the interrupt.
        self.hear_of_code();
        match self.deliver(Exception::plain(vector), EventKind::External) {
            Err(Stop::Fault(exception)) => self.deliver_fault(exception),
            other => self.without_devices(other),
        }
    }

    /// Delivers INT n, whose delivery was begun and not finished; RIP is still at the instruction of
    /// `len` bytes.
    ///
    /// # Errors
    /// As [`Self::deliver_interrupt`].
    pub fn deliver_software_interrupt(&mut self, vector: u8, len: u8) -> Done {
        let outcome = self.undoing(|cpu| {
            cpu.arch.set_rip(cpu.arch.rip().wrapping_add(u64::from(len)));
            cpu.deliver(Exception::plain(vector), EventKind::Software)
        });
        match outcome {
            Err(Stop::Fault(exception)) => self.deliver_fault(exception),
            other => self.without_devices(other),
        }
    }

    /// Whether an external interrupt would be taken, were it not for a shadow.
    #[must_use]
    pub fn interrupts_enabled(&self) -> bool {
        self.arch.rflags & rflags::IF != 0
    }

    /// Delivers an NMI and blocks further ones until IRET.
    ///
    /// # Errors
    /// As [`Self::deliver_interrupt`].
    pub fn deliver_nmi(&mut self) -> Done {
        self.arch.nmi_blocked = true;
        self.deliver_interrupt(vector::NMI)
    }

    /// Delivers an exception that the guest has just caused.
    ///
    /// # Errors
    /// As [`Self::deliver_interrupt`].
    pub(crate) fn deliver_fault(&mut self, exception: Exception) -> Done {
        self.count_fault(exception);
        self.deliver_exception(exception)
    }

    fn count_fault(&self, exception: Exception) {
        if exception.vector == vector::PF {
            self.page_faults.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// Delivers an exception; a second fault becomes a double fault where the classes say so.
    ///
    /// # Errors
    /// As [`Self::deliver_interrupt`].
    pub fn deliver_exception(&mut self, first: Exception) -> Done {
        let mut current = first;
        self.apply_payload(current);
        loop {
            match self.deliver(current, EventKind::Exception) {
                Err(Stop::Fault(second)) => {
                    self.count_fault(second);
                    self.apply_payload(second);
                    if current.vector == vector::DF {
                        return Err(Stop::Shutdown);
                    }
                    current = combine(current, second);
                }
                other => return self.without_devices(other),
            }
        }
    }

    /// CR2 or DR6 as the exception leaves them, even if it is not delivered itself.
    fn apply_payload(&mut self, exception: Exception) {
        match (exception.vector, exception.payload) {
            (vector::PF, Some(gla)) => self.arch.cr2 = gla,
            (vector::DB, Some(causes)) => {
                self.arch.dr6 = self.arch.dr6 & !dr6::BREAKPOINTS | causes;
            }
            _ => {}
        }
    }

    /// Descriptor tables and stacks in device memory are not supported during a delivery.
    fn without_devices(&mut self, outcome: Done) -> Done {
        if outcome == Err(Stop::Exit) {
            self.request = None;
            return Err(Stop::Unsupported);
        }
        outcome
    }

    fn deliver(&mut self, event: Exception, kind: EventKind) -> Done {
        self.task_switched = false;
        self.watch.forget_hits();
        self.undoing(|cpu| {
            cpu.arch.shadow = Shadow::None;
            if event.vector == vector::DB && kind == EventKind::Exception {
                cpu.arch.dr7 &= !dr7::GD;
            }
            if !cpu.mode.protected {
                return cpu.deliver_real(event.vector, kind);
            }
            let outcome = if cpu.mode.long {
                cpu.deliver_long(event, kind)
            } else {
                cpu.deliver_protected(event, kind)
            };
            outcome.map_err(|stop| with_ext(stop, kind.ext()))
        })
    }

    fn deliver_real(&mut self, vector: u8, kind: EventKind) -> Done {
        let at = 4 * u32::from(vector);
        if at + 3 > u32::from(self.arch.idtr.limit) {
            return gp(gate_code(vector, kind));
        }
        let entry: u32 = self.read_system(self.arch.idtr.base.wrapping_add(u64::from(at)))?;
        let offset = u64::from(entry & 0xFFFF);
        let cs = *self.arch.segment(SegReg::Cs);
        let segment = cs.with_real_selector((entry >> 16) as u16);
        let beyond = offset > u64::from(segment.limit);
        let frame = [self.arch.rflags, u64::from(cs.selector), self.arch.rip()];
        self.push_frame(2, &frame, |_| if beyond { gp(0) } else { Ok(()) })?;
        self.arch.rflags &= !(rflags::IF | rflags::TF | rflags::AC | rflags::RF);
        self.enter_real(segment, offset);
        Ok(())
    }

    fn deliver_protected(&mut self, event: Exception, kind: EventKind) -> Done {
        let gate = self.interrupt_gate(event.vector, kind, 8)?;
        if gate.kind() == system_type::TASK_GATE {
            self.arch.rflags = ReturnState::of(self, event, kind).flags;
            return self.event_to_task(gate, kind.ext(), event.error_code);
        }
        let wide = gate.kind() & 8 != 0;
        let (size, offset) = (if wide { 4 } else { 2 }, gate.gate_offset(wide));
        let (code, selector) = self.interrupt_code(gate, kind.ext())?;
        let was_v86 = self.mode.v86;
        let inner = !code.is_conforming() && code.dpl() < self.arch.cpl;
        if was_v86 && !(inner && code.dpl() == 0) {
            return Err(selector_fault(vector::GP, selector, kind.ext()));
        }
        let level = if inner { code.dpl() } else { self.arch.cpl };
        let return_to = ReturnState::of(self, event, kind);
        if inner {
            let (pointer, stack) = self.tss_stack(level, kind.ext())?;
            let segment = self.stack_segment(stack, level, vector::TS, kind.ext())?;
            self.arch.rflags &= !rflags::VM;
            self.switch_stack(level, segment, pointer);
            let frame = return_to.frame(true, event.error_code);
            self.push_frame(size, &frame, |cpu| cpu.check_entry(code, offset))
                .map_err(|stop| on_new_stack(stop, stack, kind.ext()))?;
            if was_v86 {
                self.drop_v86_segments();
            }
        } else {
            let frame = return_to.frame(false, event.error_code);
            self.push_frame(size, &frame, |cpu| cpu.check_entry(code, offset))?;
        }
        self.load_code_segment(code, selector, level)?;
        self.enter_code(offset)?;
        self.clear_flags_for(gate);
        Ok(())
    }

    fn deliver_long(&mut self, event: Exception, kind: EventKind) -> Done {
        let gate = self.interrupt_gate(event.vector, kind, 16)?;
        let high = self.upper_half(gate)? & 0xFFFF_FFFF;
        let (code, selector) = self.interrupt_code(gate, kind.ext())?;
        if code.attrib() & (attrib::L | attrib::DB) != attrib::L {
            return Err(selector_fault(vector::GP, selector, kind.ext()));
        }
        let inner = !code.is_conforming() && code.dpl() < self.arch.cpl;
        let level = if inner { code.dpl() } else { self.arch.cpl };
        let return_to = ReturnState::of(self, event, kind);
        let pointer = match (gate.gate_ist(), inner) {
            (0, false) => self.stack_pointer(),
            (0, true) => self.tss_stack(level, kind.ext())?.0,
            (index, _) => self.tss_ist(index, kind.ext())?,
        };
        // The frame is built by the 64-bit code that is entered: 64-bit stack accesses.
        self.load_code_segment(code, selector, level)?;
        if inner {
            self.arch.seg[SS] = null_stack(level);
            self.refresh_code_and_stack();
        }
        self.set_stack_pointer(pointer & !0xF);
        let offset = gate.gate_offset(true) | high << 32;
        let frame = return_to.frame(true, event.error_code);
        self.push_frame(8, &frame, |cpu| cpu.check_entry(code, offset))?;
        self.enter_code(offset)?;
        self.clear_flags_for(gate);
        Ok(())
    }

    /// The checked gate of a vector; entries are `size` bytes.
    fn interrupt_gate(
        &mut self,
        vector: u8,
        kind: EventKind,
        size: u32,
    ) -> Result<Descriptor, Stop> {
        let at = size * u32::from(vector);
        let code = gate_code(vector, kind);
        if at + size - 1 > u32::from(self.arch.idtr.limit) {
            return gp(code);
        }
        let gate = self.descriptor_at(self.arch.idtr.base.wrapping_add(u64::from(at)))?;
        let wide = matches!(gate.kind(), system_type::INTERRUPT_GATE | system_type::TRAP_GATE);
        let short = matches!(gate.kind(), system_type::INTERRUPT_GATE16 | system_type::TRAP_GATE16);
        let task = gate.kind() == system_type::TASK_GATE;
        let legal = wide || (!self.mode.long && (short || task));
        if !gate.is_system() || !legal {
            return gp(code);
        }
        if kind == EventKind::Software && gate.dpl() < self.arch.cpl {
            return gp(code);
        }
        if !gate.is_present() {
            return Err(Stop::Fault(Exception::with_code(vector::NP, code)));
        }
        Ok(gate)
    }

    fn interrupt_code(&mut self, gate: Descriptor, ext: u32) -> Result<(Descriptor, u16), Stop> {
        let selector = gate.gate_selector();
        if is_null(selector) {
            return gp(ext);
        }
        let code = self.descriptor(selector, vector::GP, ext)?;
        if !code.is_code() || code.dpl() > self.arch.cpl {
            return Err(selector_fault(vector::GP, selector, ext));
        }
        if !code.is_present() {
            return Err(selector_fault(vector::NP, selector, ext));
        }
        Ok((code, selector))
    }

    fn clear_flags_for(&mut self, gate: Descriptor) {
        self.arch.rflags &= !(rflags::TF | rflags::NT | rflags::RF | rflags::VM);
        if gate.kind() & 1 == 0 {
            self.arch.rflags &= !rflags::IF;
        }
    }

    /// The data segments of virtual-8086 mode become null.
    fn drop_v86_segments(&mut self) {
        for reg in DATA_SEGMENTS {
            let old = self.arch.seg[reg as usize];
            self.arch.seg[reg as usize] = Segment { selector: 0, unusable: true, ..old };
        }
        self.refresh();
    }
}

/// What is to be pushed, in this order.
struct Words {
    words: [u64; 10],
    len: usize,
}

impl Words {
    fn push(&mut self, word: u64) {
        self.words[self.len] = word;
        self.len += 1;
    }
}

impl std::ops::Deref for Words {
    type Target = [u64];

    fn deref(&self) -> &[u64] {
        &self.words[..self.len]
    }
}

/// What a handler will return to.
struct ReturnState {
    /// The data segments of virtual-8086 mode.
    data: Option<[u16; 4]>,
    ss: u16,
    rsp: u64,
    flags: u64,
    cs: u16,
    rip: u64,
}

impl ReturnState {
    fn of(cpu: &Cpu, event: Exception, kind: EventKind) -> Self {
        // RF keeps an instruction breakpoint from firing again after a fault; of #DB only general
        // detect counts as one. Otherwise RF says that a string instruction is under way.
        let trap = match event.vector {
            vector::DB => event.payload.is_none_or(|causes| causes & dr6::BD == 0),
            vector => matches!(vector, vector::BP | vector::OF | vector::DF),
        };
        let fault = kind == EventKind::Exception && !trap;
        let flags = cpu.arch.rflags;
        ReturnState {
            data: cpu.mode.v86.then(|| DATA_SEGMENTS.map(|reg| cpu.arch.segment(reg).selector)),
            ss: cpu.arch.seg[SS].selector,
            rsp: cpu.arch.gpr(cpu_defs::Gpr::Rsp),
            flags: if fault { flags | rflags::RF } else { flags },
            cs: cpu.arch.segment(SegReg::Cs).selector,
            rip: cpu.arch.rip(),
        }
    }

    /// In the order of pushing; `with_stack` also for the stack to return to.
    fn frame(&self, with_stack: bool, error_code: Option<u32>) -> Words {
        let mut words = Words { words: [0; 10], len: 0 };
        if with_stack {
            self.data.into_iter().flatten().for_each(|selector| words.push(selector.into()));
            words.push(self.ss.into());
            words.push(self.rsp);
        }
        words.push(self.flags);
        words.push(self.cs.into());
        words.push(self.rip);
        if let Some(code) = error_code {
            words.push(code.into());
        }
        words
    }
}

fn gate_code(vector: u8, kind: EventKind) -> u32 {
    u32::from(vector) << 3 | IN_IDT | kind.ext()
}

/// SDM volume 3, "Conditions for Generating a Double Fault".
fn combine(first: Exception, second: Exception) -> Exception {
    let contributory = |exception: Exception| {
        matches!(exception.vector, vector::DE | vector::TS | vector::NP | vector::SS | vector::GP)
    };
    let page_fault = |exception: Exception| exception.vector == vector::PF;
    let double = (contributory(first) && contributory(second))
        || (page_fault(first) && (contributory(second) || page_fault(second)));
    if double { Exception::with_code(vector::DF, 0) } else { second }
}
