//! A machine for guest programs: RAM from address zero, one vCPU, the device side of exits.
#![allow(dead_code, reason = "every test file uses its own part")]

use std::sync::Arc;

use cpu_defs::{CpuidEntry, Gpr, Reg, SegField, SegReg, cpuid_bit};
use cpu_engine::{Exit, IoDirection, Kick, TscClock, Vcpu, supported_cpuid};
use cpu_mem::{PageFlags, PhysMap};
use iced_x86::code_asm::CodeAssembler;

/// RAM of the machine in bytes.
pub const RAM: u64 = 0x20_0000;
/// Where programs are assembled to and start.
pub const START: u64 = 0x1000;

#[repr(C, align(4096))]
#[derive(Clone)]
struct Page([u8; 4096]);

pub struct Guest {
    pub vcpu: Vcpu,
    pub kick: Arc<Kick>,
    pub map: Arc<PhysMap>,
}

/// Assembles a program for `bits` at `address`.
pub fn assemble(bits: u32, address: u64, program: impl FnOnce(&mut CodeAssembler)) -> Vec<u8> {
    let mut assembler = CodeAssembler::new(bits).expect("bits is 16, 32 or 64");
    program(&mut assembler);
    assembler.assemble(address).expect("the program is encodable")
}

/// PKRU in XCR0.
const PKRU_COMPONENT: u32 = 1 << 9;

/// What is announced, and protection keys whatever the host has.
fn everything() -> Vec<CpuidEntry> {
    let mut table = supported_cpuid();
    for leaf in &mut table {
        match (leaf.function, leaf.index) {
            (7, 0) => leaf.ecx |= cpuid_bit::PKU.mask(),
            (0xD, 0) => leaf.eax |= PKRU_COMPONENT,
            _ => {}
        }
    }
    table
}

/// Has a guest executed in a way of its own.
pub type Tier = fn(&mut Guest);

/// Tier 0, tier 1, and both beside each other.
pub const TIERS: [Tier; 3] = [
    |guest| guest.vcpu.set_translated(false),
    |guest| guest.vcpu.set_translated(true),
    |guest| guest.vcpu.set_lockstep(),
];

/// A new guest in each tier.
pub fn each_tier(make: impl Fn() -> Guest, mut check: impl FnMut(&mut Guest)) {
    for tier in TIERS {
        let mut guest = make();
        tier(&mut guest);
        check(&mut guest);
    }
}

impl Guest {
    /// A machine with RAM and a processor after power-up.
    pub fn new() -> Self {
        let map = Arc::new(PhysMap::new());
        for gpa in (0..RAM).step_by(4096) {
            map_page(&map, gpa, PageFlags::ALL);
        }
        let kick = Arc::new(Kick::new());
        let clock = TscClock::new(1_000_000);
        let vcpu = Vcpu::new(map.clone(), kick.clone(), everything(), clock);
        Guest { vcpu, kick, map }
    }

    /// A machine in real mode with `program` at [`START`], segments 0, stack below the program.
    pub fn real_mode(program: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut guest = Self::new();
        guest.load(START, &assemble(16, START, program));
        guest.set_segment(SegReg::Cs, 0, 0x9B);
        guest.set(Reg::Rip, START);
        guest.set(Reg::Gpr(Gpr::Rsp), START);
        guest
    }

    /// A machine in flat 32-bit protected mode without paging, by cached descriptors alone.
    pub fn protected_mode(program: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut guest = Self::new();
        guest.load(START, &assemble(32, START, program));
        guest.set(Reg::Cr0, 0x11);
        guest.flat_segments(0xC09B);
        guest.set(Reg::Rip, START);
        guest.set(Reg::Gpr(Gpr::Rsp), START);
        guest
    }

    /// A machine in 64-bit mode, first 2 MiB identity-mapped in 4 KiB pages (tables at
    /// [`PML4`] on), writable by user code.
    pub fn long_mode(program: impl FnOnce(&mut CodeAssembler)) -> Self {
        let mut guest = Self::new();
        guest.load(START, &assemble(64, START, program));
        guest.build_page_tables();
        guest.enter_long_mode(START);
        guest
    }

    /// Another processor of a machine in 64-bit mode, with the stack below where it starts.
    pub fn second_in_long_mode(&self, start: u64) -> Self {
        let kick = Arc::new(Kick::new());
        let clock = TscClock::new(1_000_000);
        let vcpu = Vcpu::new(self.map.clone(), kick.clone(), everything(), clock);
        let mut second = Guest { vcpu, kick, map: self.map.clone() };
        second.enter_long_mode(start);
        second
    }

    fn enter_long_mode(&mut self, start: u64) {
        self.set(Reg::Cr4, 0x20);
        self.set(Reg::Cr3, PML4);
        self.set(Reg::Cr0, 0x8001_0011);
        self.vcpu.set_msr(cpu_defs::msr::EFER, 0xD01).expect("EFER is legal");
        self.flat_segments(0xA09B);
        self.set(Reg::Rip, start);
        self.set(Reg::Gpr(Gpr::Rsp), start);
    }

    fn build_page_tables(&mut self) {
        self.write_u64(PML4, (PML4 + 0x1000) | 7);
        self.write_u64(PML4 + 0x1000, (PML4 + 0x2000) | 7);
        self.write_u64(PML4 + 0x2000, PAGE_TABLE | 7);
        for number in 0..512 {
            self.write_u64(PAGE_TABLE + number * 8, (number << 12) | 7);
        }
    }

    fn flat_segments(&mut self, code: u64) {
        for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
            self.set_flat(reg, 0x10, 0xC093);
        }
        self.set_flat(SegReg::Cs, 0x08, code);
    }

    /// Sets a flat segment.
    pub fn set_flat(&mut self, reg: SegReg, selector: u64, attrib: u64) {
        self.set(Reg::Segment(reg, SegField::Selector), selector);
        self.set(Reg::Segment(reg, SegField::Attrib), attrib);
        self.set(Reg::Segment(reg, SegField::Limit), 0xFFFF_FFFF);
        self.set(Reg::Segment(reg, SegField::Base), 0);
    }

    /// Sets a real-mode segment.
    pub fn set_segment(&mut self, reg: SegReg, selector: u64, attrib: u64) {
        self.set(Reg::Segment(reg, SegField::Selector), selector);
        self.set(Reg::Segment(reg, SegField::Attrib), attrib);
        self.set(Reg::Segment(reg, SegField::Limit), 0xFFFF);
        self.set(Reg::Segment(reg, SegField::Base), selector << 4);
    }

    pub fn set(&mut self, reg: Reg, value: u64) {
        self.vcpu.set_reg(reg, value).expect("the register holds the value");
    }

    pub fn gpr(&self, gpr: Gpr) -> u64 {
        self.vcpu.reg(Reg::Gpr(gpr))
    }

    pub fn set_gpr(&mut self, gpr: Gpr, value: u64) {
        self.set(Reg::Gpr(gpr), value);
    }

    pub fn rip(&self) -> u64 {
        self.vcpu.reg(Reg::Rip)
    }

    /// Writes RAM as the host does.
    pub fn load(&mut self, gpa: u64, bytes: &[u8]) {
        for (at, &byte) in (gpa..).zip(bytes) {
            self.map.page(at).expect("RAM").store(at as usize % 4096, byte);
        }
    }

    pub fn write_u64(&mut self, gpa: u64, value: u64) {
        self.load(gpa, &value.to_le_bytes());
    }

    pub fn read<const N: usize>(&self, gpa: u64) -> [u8; N] {
        std::array::from_fn(|number| {
            let at = gpa + number as u64;
            self.map.page(at).expect("RAM").load(at as usize % 4096)
        })
    }

    pub fn read_u64(&self, gpa: u64) -> u64 {
        u64::from_le_bytes(self.read(gpa))
    }

    /// Maps another page of RAM, with these rights.
    pub fn add_page(&mut self, gpa: u64, flags: PageFlags) {
        map_page(&self.map, gpa, flags);
    }

    pub fn run(&mut self) -> Exit {
        self.vcpu.run(false)
    }

    /// Runs until HLT; anything else fails the test. Bytes written to ports are returned.
    pub fn run_to_hlt(&mut self) -> Vec<u8> {
        let mut written = Vec::new();
        loop {
            match self.vcpu.run(false) {
                Exit::Hlt => return written,
                Exit::Io(io) if io.dir == IoDirection::Out => {
                    written.extend_from_slice(&io.data[..usize::from(io.size)]);
                    assert_eq!(self.vcpu.complete(&[]), None);
                }
                other => panic!("at {:#x}: {}", self.rip(), describe(&other)),
            }
        }
    }
}

/// Whether both tiers leave the same where the manuals leave flags undefined: tier 0 does what AMD's
/// processors do, and translated code what the host does.
pub fn undefined_flags_are_alike() -> bool {
    host_is_amd()
}

/// The host's processor is AMD's.
pub fn host_is_amd() -> bool {
    std::arch::x86_64::__cpuid(0).ecx == u32::from_le_bytes(*b"cAMD")
}

/// RFLAGS as far as both tiers have them alike.
pub fn comparable_flags(rflags: u64) -> u64 {
    // PF, AF, ZF, SF and OF.
    const OPEN: u64 = 0x8D4;
    if undefined_flags_are_alike() { rflags } else { rflags & !OPEN }
}

/// Registers that make up the state of a processor in a test program.
pub fn state_registers() -> Vec<Reg> {
    let fields = [SegField::Selector, SegField::Attrib, SegField::Limit, SegField::Base];
    let segments = SegReg::ALL.into_iter().flat_map(|reg| fields.map(|f| Reg::Segment(reg, f)));
    let control = [Reg::Cr0, Reg::Cr3, Reg::Cr4, Reg::Rip, Reg::Rflags];
    let gprs = Gpr::ALL.into_iter().take(8).map(Reg::Gpr);
    control.into_iter().chain(gprs).chain(segments).collect()
}

/// First paging structure of [`Guest::long_mode`].
pub const PML4: u64 = 0x10_0000;
/// Last-level table of [`Guest::long_mode`].
pub const PAGE_TABLE: u64 = PML4 + 0x3000;

/// An exit without its data.
pub fn describe(exit: &Exit) -> String {
    match exit {
        Exit::Io(io) => {
            format!("Io {:?} port {:#x} size {} count {}", io.dir, io.port, io.size, io.count)
        }
        other => format!("{other:x?}"),
    }
}

#[allow(unsafe_code)]
fn map_page(map: &PhysMap, gpa: u64, flags: PageFlags) {
    let page = Box::leak(Box::new(Page([0; 4096])));
    let hva = std::ptr::from_mut(page).expose_provenance() as u64;
    // SAFETY: the page is leaked, so it stays mapped and is reached only through the map.
    unsafe { map.map_page(gpa, hva, flags) }.expect("the page is free");
}

/// A 16-byte long-mode interrupt gate.
pub fn long_gate(selector: u16, offset: u64, kind: u8, ist: u8) -> [u8; 16] {
    let low = (offset & 0xFFFF)
        | u64::from(selector) << 16
        | u64::from(ist) << 32
        | u64::from(kind) << 40
        | (offset >> 16 & 0xFFFF) << 48;
    let high = offset >> 32;
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&low.to_le_bytes());
    bytes[8..].copy_from_slice(&high.to_le_bytes());
    bytes
}

/// An 8-byte gate of protected mode; `kind` is the access byte.
pub fn gate(selector: u16, offset: u32, kind: u8, parameters: u8) -> u64 {
    let offset = u64::from(offset);
    (offset & 0xFFFF)
        | u64::from(selector) << 16
        | u64::from(parameters) << 32
        | u64::from(kind) << 40
        | (offset >> 16) << 48
}

/// A descriptor; `access` is bits 47:40, `flags` bits 55:52, `limit` 20 bits.
pub fn descriptor(base: u32, limit: u32, access: u8, flags: u8) -> u64 {
    let (base, limit) = (u64::from(base), u64::from(limit));
    (limit & 0xFFFF)
        | (base & 0xFF_FFFF) << 16
        | u64::from(access) << 40
        | (limit >> 16 & 0xF) << 48
        | u64::from(flags) << 52
        | (base >> 24) << 56
}
