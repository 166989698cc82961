//! A processor in 64-bit mode over a little RAM, every exception ending in a HLT of its own.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::sync::Arc;

use cpu_defs::{Gpr, SegReg, cr0, cr4, efer, rflags};
use cpu_interp::state::Table;
use cpu_interp::{Cpu, Interp, Outcome, Request, TscClock};
use cpu_mem::{PageFlags, PhysMap};
use iced_x86::code_asm::CodeAssembler;

/// RAM in bytes, identity-mapped.
pub const RAM: u64 = 0x20_0000;
/// Where programs start.
pub const START: u64 = 0x1000;
/// Free for the test's data.
pub const DATA: u64 = 0x4_0000;
/// Not in the map: a device.
pub const DEVICE: u64 = RAM;

const PML4: u64 = 0x10_0000;
const PAGE_TABLE: u64 = PML4 + 0x3000;
const DEVICE_TABLE: u64 = PML4 + 0x4000;
const IDT: u64 = 0x12_0000;
const GDT: u64 = 0x12_1000;
const HANDLERS: u64 = 0x12_2000;
const STACK: u64 = 0x13_0000;
/// XCR0 with x87, SSE, AVX and AVX-512.
const XCR0_ALL: u64 = 0xE7;

#[repr(C, align(4096))]
struct Page([u8; 4096]);

pub struct Machine {
    pub interp: Interp,
    map: Arc<PhysMap>,
}

/// How a program ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// At its HLT.
    Done,
    /// With this exception, whose error code and faulting RIP follow.
    Fault { vector: u8, error_code: Option<u64>, rip: u64 },
}

impl End {
    /// The exception's vector.
    pub fn vector(self) -> Option<u8> {
        match self {
            End::Done => None,
            End::Fault { vector, .. } => Some(vector),
        }
    }
}

impl Machine {
    /// All registers available, `program` followed by HLT at [`START`].
    pub fn new(program: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut assembler = CodeAssembler::new(64).expect("64 is a code size");
        program(&mut assembler);
        assembler.hlt().expect("HLT exists");
        Self::with_code(&assembler.assemble(START).expect("the program is encodable"))
    }

    /// As [`Self::new`], from bytes.
    pub fn with_code(code: &[u8]) -> Self {
        let map = Arc::new(PhysMap::new());
        for gpa in (0..RAM).step_by(4096) {
            map_page(&map, gpa);
        }
        let cpu = Cpu::new(map.clone(), Vec::new(), TscClock::new(1_000_000));
        let mut machine = Machine { interp: Interp::new(cpu), map };
        machine.write(START, code);
        machine.write(START + code.len() as u64, &[0xF4]);
        machine.enter_long_mode();
        machine
    }

    fn enter_long_mode(&mut self) {
        let entry = |machine: &mut Self, at: u64, value: u64| {
            machine.write(at, &value.to_le_bytes());
        };
        entry(self, PML4, (PML4 + 0x1000) | 7);
        entry(self, PML4 + 0x1000, (PML4 + 0x2000) | 7);
        entry(self, PML4 + 0x2000, PAGE_TABLE | 7);
        entry(self, PML4 + 0x2008, DEVICE_TABLE | 7);
        for number in 0..512 {
            entry(self, PAGE_TABLE + number * 8, number << 12 | 7);
            entry(self, DEVICE_TABLE + number * 8, (RAM + (number << 12)) | 7);
        }
        entry(self, GDT + 8, 0x00AF_9B00_0000_FFFF);
        for vector in 0..32 {
            let handler = HANDLERS + vector * 16;
            let high = handler >> 16 << 48;
            let gate = (handler & 0xFFFF) | 8 << 16 | 0x8E00 << 32 | high;
            entry(self, IDT + vector * 16, gate);
            self.write(handler, &[0xF4]);
        }
        let cpu = &mut self.interp.cpu;
        let arch = &mut cpu.arch;
        arch.idtr = Table { base: IDT, limit: 0xFFF };
        arch.gdtr = Table { base: GDT, limit: 0xF };
        for segment in &mut arch.seg[..6] {
            (segment.base, segment.limit, segment.attrib) = (0, 0xFFFF_FFFF, 0xC093);
            segment.selector = 0;
        }
        let code = &mut arch.seg[SegReg::Cs as usize];
        (code.selector, code.attrib) = (8, 0xA09B);
        arch.cr0 = cr0::PE | cr0::PG | cr0::ET | cr0::NE | cr0::MP;
        arch.cr3 = PML4;
        arch.cr4 = cr4::PAE | cr4::OSFXSR | cr4::OSXMMEXCPT | cr4::OSXSAVE;
        arch.efer = efer::LME | efer::LMA;
        arch.xcr0 = XCR0_ALL;
        arch.set_rip(START);
        arch.set_gpr(Gpr::Rsp, STACK);
        cpu.fpu.init_x87();
        cpu.refresh_paging();
    }

    /// Runs to the HLT of the program or of an exception's handler.
    pub fn run(&mut self) -> End {
        assert_eq!(self.run_to_request(), Request::Hlt, "at {:#x}", self.interp.cpu.arch.rip());
        let rip = self.interp.cpu.arch.rip() - 1;
        if !(HANDLERS..HANDLERS + 512).contains(&rip) {
            return End::Done;
        }
        let vector = ((rip - HANDLERS) / 16) as u8;
        let frame = self.gpr(Gpr::Rsp);
        let has_code = matches!(vector, 8 | 10..=14 | 17);
        let word = |at: u64| u64::from_le_bytes(self.read(at));
        let error_code = has_code.then(|| word(frame));
        End::Fault { vector, error_code, rip: word(frame + if has_code { 8 } else { 0 }) }
    }

    /// Runs until it asks for something else than the end.
    pub fn run_to_request(&mut self) -> Request {
        loop {
            match self.interp.run(|| false) {
                Outcome::Request(request) => return request,
                Outcome::Boundary => {}
                other => panic!("{other:?} at {:#x}", self.interp.cpu.arch.rip()),
            }
        }
    }

    /// Starts over, after a fault.
    pub fn restart(&mut self) {
        let arch = &mut self.interp.cpu.arch;
        arch.set_rip(START);
        arch.set_gpr(Gpr::Rsp, STACK);
    }

    /// Takes the page at a linear address away.
    pub fn unmap(&mut self, gla: u64) {
        self.set_entry(gla, 0);
    }

    /// Maps the page at a linear address again.
    pub fn map_again(&mut self, gla: u64) {
        self.set_entry(gla, (gla & !0xFFF) | 7);
    }

    fn set_entry(&mut self, gla: u64, entry: u64) {
        self.write(PAGE_TABLE + (gla >> 12) * 8, &entry.to_le_bytes());
        self.interp.cpu.flush_translations();
    }

    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.interp.cpu.arch.gpr(gpr)
    }

    pub fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.interp.cpu.arch.set_gpr(gpr, value);
    }

    /// The status flags.
    pub fn flags(&self) -> u64 {
        self.interp.cpu.arch.rflags & rflags::STATUS
    }

    /// The first bytes of a vector register.
    pub fn vector<const N: usize>(&self, number: usize) -> [u8; N] {
        std::array::from_fn(|at| self.interp.cpu.fpu.zmm[number][at])
    }

    /// Sets the first bytes of a vector register.
    pub fn set_vector(&mut self, number: usize, bytes: &[u8]) {
        self.interp.cpu.fpu.zmm[number][..bytes.len()].copy_from_slice(bytes);
    }

    pub fn set_mask(&mut self, number: usize, value: u64) {
        self.interp.cpu.fpu.opmask[number] = value;
    }

    pub fn mask(&self, number: usize) -> u64 {
        self.interp.cpu.fpu.opmask[number]
    }

    pub fn write(&mut self, gpa: u64, bytes: &[u8]) {
        for (at, &byte) in (gpa..).zip(bytes) {
            self.map.page(at).expect("RAM").store(at as usize % 4096, byte);
        }
    }

    pub fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        std::array::from_fn(|number| {
            let at = gpa + number as u64;
            self.map.page(at).expect("RAM").load(at as usize % 4096)
        })
    }
}

/// Bytes 1, 2, 3 and so on.
pub fn counting<const N: usize>() -> [u8; N] {
    std::array::from_fn(|at| at as u8 + 1)
}

/// Little-endian bytes of 32-bit elements.
pub fn dwords<const N: usize>(values: &[u32]) -> [u8; N] {
    let mut bytes = [0; N];
    for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
        place.copy_from_slice(&value.to_le_bytes());
    }
    bytes
}

#[allow(unsafe_code)]
fn map_page(map: &PhysMap, gpa: u64) {
    let page = Box::leak(Box::new(Page([0; 4096])));
    let hva = std::ptr::from_mut(page).expose_provenance() as u64;
    // SAFETY: the page is leaked, so it stays mapped and is reached only through the map.
    unsafe { map.map_page(gpa, hva, PageFlags::ALL) }.expect("the page is free");
}
