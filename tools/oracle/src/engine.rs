//! The engine's side: the same cases on a `Vcpu` in long mode at CPL 3.
//!
//! The guest is set up as Linux sets up the host: page tables with the pages of `layout`, GDT and
//! LDT with the descriptors of a user program, control registers. Its interrupt table leads every
//! vector to a HLT of its own in supervisor memory. A case ends there: the vector is known from RIP,
//! the rest from the frame on the stack.
//!
//! The engine runs as it always does: through its translator where that is not turned off.

use std::sync::Arc;

use cpu_defs::msr;
use cpu_engine::{
    Exit, Gpr, Kick, Reg, SegField, SegReg, TableField, TscClock, Vcpu, supported_cpuid,
};
use cpu_mem::{HostPage, PhysMap};

use crate::case::{CODE_LEN, Case, LINES, Outcome, end, writable_line};
use crate::guest_memory::{GuestMemory, KERNEL};
use crate::layout::{CODE, CODE_PAGES, DATA, DATA_PAGES, FILLER, IMAGE, LINE, LOCALS, PAGE, Page};
use crate::watchdog::Watchdog;

/// Physical places.
const PML4: u64 = 0x1000;
const IDT: u64 = 0xA000;
const GDT: u64 = 0xB000;
const LDT: u64 = 0xB800;
const TSS: u64 = 0xC000;
const STACK_TOP: u64 = 0xE000;
/// Where the handler of vector 0 would be; 16 bytes for each.
const HANDLERS: u64 = 0xE000;
const CODE_AT: u64 = 0x10_0000;
const DATA_AT: u64 = 0x11_0000;

const KERNEL_CS: u16 = 0x10;
/// PE, MP, ET, NE, WP, AM, PG.
const CR0: u64 = 0x8005_0033;
/// What Linux enables in CR4, as far as the engine knows the bits: VME, DE, PSE, PAE, MCE, PGE,
/// OSFXSR, OSXMMEXCPT, UMIP, FSGSBASE, OSXSAVE.
const CR4: [u32; 11] = [0, 3, 4, 5, 6, 7, 9, 10, 11, 16, 18];
/// SCE, LME, LMA, NXE.
const EFER: u64 = 0xD01;
/// XCR0 with AVX-512, AVX, SSE, x87: the most that the engine takes.
const XCR0: [u64; 4] = [0xE7, 7, 3, 1];
/// Linux's global descriptors of interest to a user program.
const GLOBALS: [(u64, u64); 7] = [
    (1, 0x00CF_9B00_0000_FFFF),
    (2, 0x00AF_9B00_0000_FFFF),
    (3, 0x00CF_9300_0000_FFFF),
    (4, 0x00CF_FB00_0000_FFFF),
    (5, 0x00CF_F300_0000_FFFF),
    (6, 0x00AF_FB00_0000_FFFF),
    (15, 0x0040_F500_0000_0000),
];
const GDT_LIMIT: u64 = 127;
const HLT: u8 = 0xF4;

/// The engine with its guest.
pub struct Engine {
    vcpu: Vcpu,
    watchdog: Watchdog,
    memory: GuestMemory,
    image: Box<[u8; IMAGE]>,
    data: Vec<Option<HostPage>>,
    descriptors: Vec<u64>,
}

impl Engine {
    /// A guest with this image of memory.
    #[must_use]
    pub fn new(image: &[u8; IMAGE]) -> Self {
        let memory = GuestMemory::new(&[(0, 16), (CODE_AT, CODE_PAGES), (DATA_AT, IMAGE / PAGE)]);
        let map: Arc<PhysMap> = memory.map();
        let clock = TscClock::new(1_000_000);
        let kick = Arc::new(Kick::new());
        let watchdog = Watchdog::over(Arc::clone(&kick));
        let mut vcpu = Vcpu::new(map, kick, supported_cpuid(), clock);
        vcpu.set_translated(std::env::var("KVMSHIM_TIER").as_deref() != Ok("0"));
        let data =
            (0..DATA_PAGES.len()).map(|number| memory.page(DATA_AT + (number * PAGE) as u64));
        let data = data.collect();
        let mut engine = Engine {
            vcpu,
            watchdog,
            memory,
            image: Box::new(*image),
            data,
            descriptors: Vec::new(),
        };
        engine.build_tables();
        engine.set_system_registers();
        engine
    }

    fn build_tables(&mut self) {
        let memory = &mut self.memory;
        memory.fill(CODE_AT, CODE_PAGES * PAGE, FILLER);
        memory.write(DATA_AT, self.image.as_slice());
        memory.build_page_tables(PML4);
        memory.fill(HANDLERS, 256 * 16, HLT);
        for page in 0..16 {
            memory.map_page(KERNEL + (page << 12), page << 12 | 3);
        }
        for page in 0..CODE_PAGES as u64 {
            memory.map_page(CODE + (page << 12), (CODE_AT + (page << 12)) | 5);
        }
        for (number, kind) in (0..).zip(DATA_PAGES) {
            let rights = match kind {
                Page::Writable => 7,
                Page::ReadOnly => 5,
                Page::Absent => continue,
            };
            let entry = (DATA_AT + (number << 12)) | rights | 1 << 63;
            memory.map_page(DATA + (number << 12), entry);
        }
        for vector in 0..256 {
            let dpl = if vector == 3 || vector == 4 { 3 } else { 0 };
            let [low, high] = interrupt_gate(KERNEL + HANDLERS + vector * 16, dpl);
            memory.write_u64(IDT + vector * 16, low);
            memory.write_u64(IDT + vector * 16 + 8, high);
        }
        for (index, descriptor) in GLOBALS {
            memory.write_u64(GDT + index * 8, descriptor);
        }
        for (index, local) in (0..).zip(LOCALS) {
            memory.write_u64(LDT + index * 8, local.descriptor());
        }
        memory.write_u64(TSS + 4, KERNEL + STACK_TOP);
        // The I/O permission map is behind the limit: no port is open.
        memory.write_u64(TSS + 96, 0xFFFF << 48);
        self.descriptors = LOCALS.iter().map(crate::layout::Local::descriptor).collect();
    }

    fn set(&mut self, reg: Reg, value: u64) {
        self.vcpu.set_reg(reg, value).expect("the register holds the value");
    }

    fn set_system_registers(&mut self) {
        let mut cr4 = 0;
        for bit in CR4 {
            if self.vcpu.set_reg(Reg::Cr4, cr4 | 1 << bit).is_ok() {
                cr4 |= 1 << bit;
            }
        }
        self.set(Reg::Cr3, PML4);
        self.set(Reg::Cr0, CR0);
        self.vcpu.set_msr(msr::EFER, EFER).expect("EFER is legal");
        for xcr0 in XCR0 {
            if self.vcpu.set_reg(Reg::Xcr0, xcr0).is_ok() {
                break;
            }
        }
        self.set(Reg::Gdtr(TableField::Base), KERNEL + GDT);
        self.set(Reg::Gdtr(TableField::Limit), GDT_LIMIT);
        self.set(Reg::Idtr(TableField::Base), KERNEL + IDT);
        self.set(Reg::Idtr(TableField::Limit), 0xFFF);
        self.set_system_segment(SegReg::Tr, 0x40, TSS, 0x67, 0x8B);
        let ldt_limit = LOCALS.len() as u64 * 8 - 1;
        self.set_system_segment(SegReg::Ldtr, 0x50, LDT, ldt_limit, 0x82);
    }

    fn set_system_segment(&mut self, reg: SegReg, selector: u64, at: u64, limit: u64, attrib: u64) {
        self.set(Reg::Segment(reg, SegField::Selector), selector);
        self.set(Reg::Segment(reg, SegField::Base), KERNEL + at);
        self.set(Reg::Segment(reg, SegField::Limit), limit);
        self.set(Reg::Segment(reg, SegField::Attrib), attrib);
    }

    /// Runs a case until it ends in an exception.
    pub fn run(&mut self, case: &Case, outcome: &mut Outcome) {
        self.prepare_memory(case);
        self.load(case);
        outcome.vector = end::ENDLESS;
        self.watchdog.begin();
        loop {
            match self.vcpu.run(false) {
                Exit::Hlt => break,
                Exit::Interrupted if self.watchdog.has_given_up() => break,
                // A kick for the case before.
                Exit::Interrupted => {}
                exit => {
                    let unsupported = matches!(exit, Exit::EmulationFailure { .. });
                    outcome.vector = if unsupported { end::UNSUPPORTED } else { end::EXIT };
                    break;
                }
            }
        }
        self.record(case, outcome);
        self.put_back(case, outcome);
    }

    fn prepare_memory(&mut self, case: &Case) {
        let (at, len) = code_place(case);
        self.memory.write(at, &case.code[..len]);
        for poke in case.pokes.iter().filter(|poke| poke.len > 0) {
            let len = (poke.len as usize).min(LINE);
            self.memory.write(DATA_AT + u64::from(poke.at), &poke.bytes[..len]);
        }
    }

    fn load(&mut self, case: &Case) {
        for (number, selector) in case.seg.into_iter().enumerate() {
            self.load_segment(SegReg::SREG[number], selector);
        }
        if case.bits == 64 {
            self.set(Reg::Segment(SegReg::Fs, SegField::Base), case.fs_base);
            self.set(Reg::Segment(SegReg::Gs, SegField::Base), case.gs_base);
        }
        for (number, value) in case.gpr.into_iter().enumerate() {
            self.set(Reg::Gpr(Gpr::ALL[number]), value);
        }
        self.set(Reg::Rip, case.rip);
        self.set(Reg::Rflags, case.rflags);
        *self.vcpu.fpu_mut() = case.fpu.clone();
    }

    /// A segment register as a load of the selector leaves it.
    fn load_segment(&mut self, reg: SegReg, selector: u16) {
        let index = u64::from(selector >> 3);
        let descriptor = if selector & 4 != 0 {
            self.descriptors.get(index as usize).copied()
        } else {
            GLOBALS.iter().find(|global| global.0 == index).map(|global| global.1)
        };
        let descriptor = descriptor.unwrap_or(0);
        let attrib = descriptor >> 40 & 0xF0FF;
        let unusable = if attrib & 0x80 == 0 { 1 << 16 } else { 0 };
        let limit = (descriptor & 0xFFFF) | (descriptor >> 32 & 0xF_0000);
        let limit = if attrib & 0x8000 != 0 { limit << 12 | 0xFFF } else { limit };
        let base = (descriptor >> 16 & 0xFF_FFFF) | (descriptor >> 32 & 0xFF00_0000);
        self.set(Reg::Segment(reg, SegField::Selector), u64::from(selector));
        self.set(Reg::Segment(reg, SegField::Base), base);
        self.set(Reg::Segment(reg, SegField::Limit), limit);
        self.set(Reg::Segment(reg, SegField::Attrib), attrib | unusable);
    }

    fn record(&mut self, case: &Case, outcome: &mut Outcome) {
        for (number, gpr) in Gpr::ALL.into_iter().enumerate() {
            outcome.gpr[number] = self.vcpu.reg(Reg::Gpr(gpr));
        }
        for (number, reg) in SegReg::SREG.into_iter().enumerate() {
            outcome.seg[number] = self.vcpu.reg(Reg::Segment(reg, SegField::Selector)) as u16;
        }
        outcome.rip = self.vcpu.reg(Reg::Rip);
        outcome.rflags = self.vcpu.reg(Reg::Rflags);
        outcome.fs_base = 0;
        outcome.gs_base = 0;
        if case.bits == 64 {
            outcome.fs_base = self.vcpu.reg(Reg::Segment(SegReg::Fs, SegField::Base));
            outcome.gs_base = self.vcpu.reg(Reg::Segment(SegReg::Gs, SegField::Base));
        }
        outcome.error_code = 0;
        outcome.cr2 = self.vcpu.reg(Reg::Cr2);
        outcome.fpu.clone_from(self.vcpu.fpu());
        if outcome.vector == end::ENDLESS && outcome.rip >= KERNEL + HANDLERS {
            self.record_frame(outcome);
        }
    }

    /// Reads what the delivery of the exception pushed.
    fn record_frame(&mut self, outcome: &mut Outcome) {
        outcome.vector = ((outcome.rip - KERNEL - HANDLERS) / 16) as u32;
        let mut at = outcome.gpr[4].wrapping_sub(KERNEL);
        let mut pop = || {
            at += 8;
            self.memory.read_u64(at - 8)
        };
        if matches!(outcome.vector, 8 | 10..=14 | 17) {
            outcome.error_code = pop() as u32;
        }
        outcome.rip = pop();
        outcome.seg[1] = pop() as u16;
        outcome.rflags = pop();
        outcome.gpr[4] = pop();
        outcome.seg[2] = pop() as u16;
    }

    fn put_back(&mut self, case: &Case, outcome: &mut Outcome) {
        let (at, len) = code_place(case);
        self.memory.fill(at, len, FILLER);
        let mut found = 0;
        let mut bytes = [0; PAGE];
        for (number, page) in self.data.iter().enumerate() {
            let Some(page) = page.filter(|_| writable_line(number * PAGE / LINE)) else {
                continue;
            };
            page.copy_out(0, &mut bytes);
            let image = &self.image[number * PAGE..(number + 1) * PAGE];
            if bytes == image {
                continue;
            }
            for (line, (new, old)) in
                bytes.chunks_exact(LINE).zip(image.chunks_exact(LINE)).enumerate()
            {
                if new == old {
                    continue;
                }
                if let Some(slot) = outcome.lines.get_mut(found) {
                    slot.number = (number * PAGE / LINE + line) as u32;
                    slot.bytes.copy_from_slice(new);
                }
                found += 1;
            }
            page.copy_in(0, image);
        }
        debug_assert!(LINES <= u32::MAX as usize);
        outcome.nr_lines = found as u32;
    }
}

/// Where in physical memory a case's code goes, and how much of it is in the code pages.
fn code_place(case: &Case) -> (u64, usize) {
    let base = if case.bits == 16 { 0 } else { CODE };
    let all = CODE_PAGES * PAGE;
    let offset = (case.rip.wrapping_sub(base) as usize).min(all);
    (CODE_AT + offset as u64, (case.len as usize).min(CODE_LEN).min(all - offset))
}

/// A 64-bit interrupt gate.
fn interrupt_gate(offset: u64, dpl: u64) -> [u64; 2] {
    let selector = u64::from(KERNEL_CS) << 16;
    let low =
        (offset & 0xFFFF) | selector | (0x8E | dpl << 5) << 40 | (offset >> 16 & 0xFFFF) << 48;
    [low, offset >> 32]
}
