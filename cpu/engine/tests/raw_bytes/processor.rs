//! Processors in every mode, with registers as a host may set them.

use cpu_engine::{
    CpuidEntry, Gpr, Personality, Reg, SegField, SegReg, TableField, TscClock, Vcpu,
    supported_cpuid, supported_msrs,
};

use crate::machine::{CODE, GDT, IDT, Machine, RAM, TABLES, TSS};
use crate::random::Random;

/// A mode of the processor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    Real,
    Protected16,
    Protected32,
    PagedUser32,
    Virtual8086,
    Compatibility,
    Long,
    LongUser,
    FiveLevels,
}

pub const MODES: [Mode; 9] = [
    Mode::Real,
    Mode::Protected16,
    Mode::Protected32,
    Mode::PagedUser32,
    Mode::Virtual8086,
    Mode::Compatibility,
    Mode::Long,
    Mode::LongUser,
    Mode::FiveLevels,
];

const EFER: u32 = 0xC000_0080;

/// A register may refuse a value; that is an answer, too.
fn set(vcpu: &mut Vcpu, reg: Reg, value: u64) {
    let _ = vcpu.set_reg(reg, value);
}

fn set_segment(vcpu: &mut Vcpu, reg: SegReg, parts: [u64; 4]) {
    let fields = [SegField::Selector, SegField::Base, SegField::Limit, SegField::Attrib];
    for (field, value) in fields.into_iter().zip(parts) {
        set(vcpu, Reg::Segment(reg, field), value);
    }
}

/// A processor about to execute at [`CODE`].
pub fn in_mode(machine: &Machine, mode: Mode, random: &mut Random) -> Vcpu {
    let clock = TscClock::new(1_000_000);
    let cpuid = cpuid(random);
    let mut vcpu = Vcpu::new(machine.map.clone(), machine.kick.clone(), cpuid, clock);
    let protection = 0x8005_0033;
    let (cr0, cr4, efer) = match mode {
        Mode::Real => (0x10, 0, 0),
        Mode::Protected16 | Mode::Protected32 | Mode::Virtual8086 => (0x33, 0x640, 0),
        Mode::PagedUser32 => (protection, 0x610 | random.below(2) << 5, 0),
        Mode::FiveLevels => (protection, 0x16F0, 0xD01),
        _ => (protection, 0x6F0 | random.next() & 0x0037_0000, 0xD01),
    };
    set(&mut vcpu, Reg::Cr4, cr4);
    set(&mut vcpu, Reg::Cr3, TABLES + if mode == Mode::FiveLevels { 0 } else { 0x1000 });
    set(&mut vcpu, Reg::Cr0, cr0);
    let _ = vcpu.set_msr(EFER, efer);
    let _ = vcpu.set_reg(Reg::Xcr0, random.pick(&[0xE7, 7, 3, 1]));
    set_segments(&mut vcpu, mode, random);
    for gpr in Gpr::ALL {
        set(&mut vcpu, Reg::Gpr(gpr), random.value());
    }
    set(&mut vcpu, Reg::Gpr(Gpr::Rsp), random.below(RAM) & !7);
    let code = if mode == Mode::Real || mode == Mode::Virtual8086 { 0 } else { CODE };
    let place = if random.chance(10) { 0xFF0 } else { random.below(0x100) };
    set(&mut vcpu, Reg::Rip, code + place);
    let virtual_8086 = if mode == Mode::Virtual8086 { 1 << 17 } else { 0 };
    let flags = random.next() & if random.chance(20) { 0x27_7FD7 } else { 0x3ED7 };
    set(&mut vcpu, Reg::Rflags, flags | 2 | virtual_8086);
    vcpu
}

fn set_segments(vcpu: &mut Vcpu, mode: Mode, random: &mut Random) {
    let user = matches!(mode, Mode::PagedUser32 | Mode::LongUser | Mode::Virtual8086);
    let dpl = if user { 0x60 } else { 0 };
    let flat = |selector: u64, attrib: u64| [selector | dpl >> 5, 0, 0xFFFF_FFFF, attrib | dpl];
    let window = |attrib: u64| [CODE >> 4, CODE, 0xFFFF, attrib | dpl];
    let (code, data) = match mode {
        Mode::Real | Mode::Virtual8086 => (window(0x93), window(0x93)),
        Mode::Protected16 => (flat(0x08, 0x809B), flat(0x10, 0x8093)),
        Mode::Long | Mode::LongUser | Mode::FiveLevels => (flat(0x08, 0xA09B), flat(0x10, 0xC093)),
        _ => (flat(0x08, 0xC09B), flat(0x10, 0xC093)),
    };
    set_segment(vcpu, SegReg::Cs, code);
    for reg in [SegReg::Es, SegReg::Ss, SegReg::Ds, SegReg::Fs, SegReg::Gs] {
        set_segment(vcpu, reg, data);
    }
    set_segment(vcpu, SegReg::Tr, [0x28, TSS, 0xFFF, random.pick(&[0x8B, 0x83])]);
    set_segment(vcpu, SegReg::Ldtr, [0x30, GDT + 0x800, 0x7FF, 0x82]);
    set(vcpu, Reg::Gdtr(TableField::Base), GDT);
    set(vcpu, Reg::Gdtr(TableField::Limit), random.pick(&[0xFFF, 0xFFF, 0x27, 0]));
    set(vcpu, Reg::Idtr(TableField::Base), if mode == Mode::Real { 0 } else { IDT });
    set(vcpu, Reg::Idtr(TableField::Limit), random.pick(&[0xFFF, 0xFFF, 0xFFF, 0x77]));
}

/// What is offered, nothing, or a table that no processor has.
fn cpuid(random: &mut Random) -> Vec<CpuidEntry> {
    let mut table = supported_cpuid();
    match random.below(8) {
        0 => table.clear(),
        1 | 2 => {
            for entry in &mut table {
                let any = random.next() as u32;
                let word = random.pick(&[u32::MAX, 0, any]);
                match random.below(8) {
                    0 => entry.eax = word,
                    1 => entry.ebx = word,
                    2 => entry.ecx = word,
                    3 => entry.edx = word,
                    4 => entry.function = word,
                    _ => {}
                }
            }
        }
        _ => {}
    }
    table
}

/// Puts code where the processor executes next.
pub fn load_code(machine: &Machine, vcpu: &Vcpu, code: &[u8]) {
    let base = vcpu.reg(Reg::Segment(SegReg::Cs, SegField::Base));
    let start = base.wrapping_add(vcpu.reg(Reg::Rip));
    for (at, &byte) in (start..).zip(code) {
        machine.write_byte(at, byte);
    }
}

/// Sets registers to anything, as a host may at any time.
pub fn disturb(vcpu: &mut Vcpu, random: &mut Random) {
    if random.chance(70) {
        return;
    }
    let msrs = supported_msrs(random.pick(&[Personality::Intel, Personality::Amd]));
    for _ in 0..random.below(8) {
        let reg = any_register(random);
        let value = random.value();
        set(vcpu, reg, value);
        let index = random.pick(&msrs);
        let _ = vcpu.set_msr(index, random.value());
        let _ = vcpu.msr(random.next() as u32);
    }
    if random.chance(30) {
        let mut image = [0; 512];
        image.fill_with(|| random.next() as u8);
        vcpu.fxrstor(&image);
    }
    if random.chance(30) {
        let mut area = vcpu.xsave();
        for _ in 0..random.below(16) {
            let at = random.below(area.len() as u64) as usize;
            area[at] = random.next() as u8;
        }
        area.truncate(random.pick(&[area.len(), 576, 511, 0]));
        let _ = vcpu.xrstor(&area);
    }
    if random.chance(20) {
        vcpu.set_cpuid(cpuid(random));
    }
    if random.chance(5) {
        vcpu.init_reset();
    }
}

fn any_register(random: &mut Random) -> Reg {
    let fields = [SegField::Selector, SegField::Attrib, SegField::Limit, SegField::Base];
    let segment = Reg::Segment(random.pick(&SegReg::ALL), random.pick(&fields));
    let table = random.pick(&[TableField::Base, TableField::Limit]);
    let gpr = random.pick(&Gpr::ALL);
    random.pick(&[
        Reg::Gpr(gpr),
        Reg::Rip,
        Reg::Rflags,
        segment,
        segment,
        Reg::Gdtr(table),
        Reg::Idtr(table),
        Reg::Dr0,
        Reg::Dr3,
        Reg::Dr6,
        Reg::Dr7,
        Reg::Cr0,
        Reg::Cr2,
        Reg::Cr3,
        Reg::Cr4,
        Reg::Cr8,
        Reg::Xcr0,
    ])
}
