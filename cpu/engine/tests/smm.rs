//! System management mode: entry by SMI, the state-save area in both layouts, RSM, what waits.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField, msr};
use cpu_engine::{Events, Exit, Personality, Shadow, supported_cpuid, supported_cpuid_as};
use guest::{Guest, RAM, START, assemble, state_registers};
use iced_x86::code_asm::*;

const SMBASE: u64 = 0x3_0000;
const ENTRY: u64 = SMBASE + 0x8000;
const AREA: u64 = SMBASE + 0xFE00;
const SMI_COUNT: u32 = 0x34;

/// Puts 16-bit code where the handler begins.
fn handler(guest: &mut Guest, program: impl FnOnce(&mut CodeAssembler)) {
    guest.load(ENTRY, &assemble(16, 0x8000, program));
}

fn rsm(asm: &mut CodeAssembler) {
    asm.rsm().unwrap();
}

fn halt(asm: &mut CodeAssembler) {
    asm.hlt().unwrap();
}

/// A processor whose CPUID does not announce long mode.
fn without_long_mode(guest: &mut Guest) {
    let mut cpuid = supported_cpuid();
    for entry in cpuid.iter_mut().filter(|entry| entry.function == 0x8000_0001) {
        entry.edx &= !(1 << 29);
    }
    guest.vcpu.set_cpuid(cpuid);
}

/// A value of its own for every register that is saved and can have any value.
fn fill_registers(guest: &mut Guest) {
    for (number, gpr) in (0..).zip(Gpr::ALL) {
        guest.set_gpr(gpr, 0x1111_1111_0000_0000 * (number % 15) + 0xAAAA_0000 + number);
    }
    for (number, reg) in (0..).zip(SegReg::ALL) {
        guest.set(Reg::Segment(reg, SegField::Selector), 0x100 + 8 * number);
        guest.set(Reg::Segment(reg, SegField::Limit), 0x1_0000 + number);
        guest.set(Reg::Segment(reg, SegField::Base), 0x5000_0000 + 0x100 * number);
    }
    guest.set(Reg::Segment(SegReg::Fs, SegField::Attrib), 0x1_D0F3);
    for (table, at) in [(Reg::Gdtr as fn(TableField) -> Reg, 1), (Reg::Idtr, 2)] {
        guest.set(table(TableField::Base), 0x7000_0000 + at);
        guest.set(table(TableField::Limit), 0x700 + at);
    }
    guest.set(Reg::Dr6, 0xFFFF_4FF1);
    guest.set(Reg::Dr7, 0x0001_0403);
    guest.set(Reg::Rflags, 0x4_6AD7);
    guest.set(Reg::Rip, 0x1234);
}

/// An area of zeros, with values of so many bytes put at offsets from SMBASE.
fn area(values: &[(usize, usize, u64)]) -> [u8; 512] {
    let mut bytes = [0; 512];
    for (at, len, value) in values {
        let at = at - 0xFE00;
        bytes[at..at + len].copy_from_slice(&value.to_le_bytes()[..*len]);
    }
    bytes
}

/// Attributes as they are saved: an unusable segment is one that is not present.
fn saved_attrib(guest: &Guest, reg: SegReg) -> u64 {
    let attrib = guest.vcpu.reg(Reg::Segment(reg, SegField::Attrib));
    if attrib & 0x1_0000 == 0 { attrib } else { attrib & 0xFF7F }
}

#[test]
fn the_area_of_amd64_has_the_layout_of_the_manual() {
    let mut guest = Guest::long_mode(|_| {});
    handler(&mut guest, halt);
    fill_registers(&mut guest);
    let mut values = vec![
        (0xFEFC, 4, 0x2_0064),
        (0xFF00, 4, SMBASE),
        (0xFED0, 8, 0xD01),
        (0xFF48, 8, 0x20),
        (0xFF50, 8, guest::PML4),
        (0xFF58, 8, 0x8001_0011),
        (0xFF60, 8, 0x0001_0403),
        (0xFF68, 8, 0xFFFF_4FF1),
        (0xFF70, 8, 0x4_6AD7),
        (0xFF78, 8, 0x1234),
        (0xFE64, 4, 0x701),
        (0xFE68, 8, 0x7000_0001),
        (0xFE84, 4, 0x702),
        (0xFE88, 8, 0x7000_0002),
    ];
    for (number, gpr) in Gpr::ALL.into_iter().enumerate() {
        values.push((0xFFF8 - 8 * number, 8, guest.gpr(gpr)));
    }
    for (at, reg) in [
        (0xFE00, SegReg::Es),
        (0xFE10, SegReg::Cs),
        (0xFE20, SegReg::Ss),
        (0xFE30, SegReg::Ds),
        (0xFE40, SegReg::Fs),
        (0xFE50, SegReg::Gs),
        (0xFE70, SegReg::Ldtr),
        (0xFE90, SegReg::Tr),
    ] {
        let field = |field| guest.vcpu.reg(Reg::Segment(reg, field));
        values.push((at, 2, field(SegField::Selector)));
        values.push((at + 2, 2, saved_attrib(&guest, reg)));
        values.push((at + 4, 4, field(SegField::Limit)));
        values.push((at + 8, 8, field(SegField::Base)));
    }
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.read(AREA), area(&values));
}

#[test]
fn the_area_without_long_mode_has_the_layout_of_the_manual() {
    let mut guest = Guest::protected_mode(|_| {});
    without_long_mode(&mut guest);
    handler(&mut guest, halt);
    fill_registers(&mut guest);
    let mut values = vec![
        (0xFEF8, 4, SMBASE),
        (0xFEFC, 4, 0x2_0000),
        (0xFF14, 4, 0),
        (0xFF54, 4, 0x702),
        (0xFF58, 4, 0x7000_0002),
        (0xFF70, 4, 0x701),
        (0xFF74, 4, 0x7000_0001),
        (0xFFC8, 4, 0x0001_0403),
        (0xFFCC, 4, 0xFFFF_4FF1),
        (0xFFF0, 4, 0x1234),
        (0xFFF4, 4, 0x4_6AD7),
        (0xFFF8, 4, 0),
        (0xFFFC, 4, 0x11),
    ];
    for (number, gpr) in Gpr::ALL[..8].iter().enumerate() {
        values.push((0xFFD0 + 4 * number, 4, guest.gpr(*gpr)));
    }
    for (at, selector, reg) in [
        (0xFF84, 0xFFA8, SegReg::Es),
        (0xFF90, 0xFFAC, SegReg::Cs),
        (0xFF9C, 0xFFB0, SegReg::Ss),
        (0xFF2C, 0xFFB4, SegReg::Ds),
        (0xFF38, 0xFFB8, SegReg::Fs),
        (0xFF44, 0xFFBC, SegReg::Gs),
        (0xFF78, 0xFFC0, SegReg::Ldtr),
        (0xFF5C, 0xFFC4, SegReg::Tr),
    ] {
        let field = |field| guest.vcpu.reg(Reg::Segment(reg, field));
        values.push((selector, 4, field(SegField::Selector)));
        values.push((at, 4, saved_attrib(&guest, reg) << 8));
        values.push((at + 4, 4, field(SegField::Limit)));
        values.push((at + 8, 4, field(SegField::Base)));
    }
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.read(AREA), area(&values));
}

#[test]
fn the_handler_begins_in_real_mode_with_flat_segments() {
    let mut guest = Guest::long_mode(|_| {});
    handler(&mut guest, halt);
    fill_registers(&mut guest);
    guest.set(Reg::Cr0, 0x8005_003D);
    let base = 0x4_5000;
    guest.vcpu.set_msr(msr::IA32_SMBASE, base).unwrap();
    guest.load(base + 0x8000, &assemble(16, 0x8000, halt));
    guest.vcpu.inject_smi();
    assert!(!guest.vcpu.in_smm());
    assert_eq!(guest.run(), Exit::Hlt);
    assert!(guest.vcpu.in_smm());
    let expected = [
        (Reg::Rip, 0x8001),
        (Reg::Rflags, 2),
        (Reg::Cr0, 0x0005_0030),
        (Reg::Cr3, guest::PML4),
        (Reg::Cr4, 0),
        (Reg::Dr6, 0xFFFF_4FF1),
        (Reg::Dr7, 0x400),
        (Reg::Gdtr(TableField::Base), 0x7000_0001),
        (Reg::Idtr(TableField::Base), 0),
        (Reg::Idtr(TableField::Limit), 0),
        (Reg::Segment(SegReg::Cs, SegField::Selector), 0x4500),
        (Reg::Segment(SegReg::Cs, SegField::Base), base),
        (Reg::Segment(SegReg::Cs, SegField::Limit), 0xFFFF_FFFF),
        (Reg::Segment(SegReg::Cs, SegField::Attrib), 0x8093),
        (Reg::Segment(SegReg::Ss, SegField::Selector), 0),
        (Reg::Segment(SegReg::Ss, SegField::Base), 0),
        (Reg::Segment(SegReg::Ss, SegField::Limit), 0xFFFF_FFFF),
        (Reg::Segment(SegReg::Ss, SegField::Attrib), 0x8093),
        (Reg::Segment(SegReg::Tr, SegField::Selector), 0x138),
    ];
    for (reg, value) in expected {
        assert_eq!(guest.vcpu.reg(reg), value, "{reg:?}");
    }
    assert_eq!(guest.vcpu.msr(msr::EFER), Ok(0));
    assert_eq!(guest.vcpu.msr(SMI_COUNT), Ok(1));
}

/// Runs a guest with and without an SMI before its first instruction.
fn assert_unseen(build: impl Fn() -> Guest) {
    let mut plain = build();
    plain.run_to_hlt();
    let mut interrupted = build();
    handler(&mut interrupted, |asm| {
        // Everything else is put back as well.
        asm.mov(eax, 0xDEAD).unwrap();
        asm.mov(cr3, eax).unwrap();
        asm.mov(esp, eax).unwrap();
        rsm(asm);
    });
    interrupted.vcpu.inject_smi();
    interrupted.run_to_hlt();
    assert!(!interrupted.vcpu.in_smm());
    for reg in state_registers() {
        assert_eq!(interrupted.vcpu.reg(reg), plain.vcpu.reg(reg), "{reg:?}");
    }
    assert_eq!(interrupted.vcpu.msr(msr::EFER), plain.vcpu.msr(msr::EFER));
    assert_eq!(interrupted.vcpu.msr(SMI_COUNT), Ok(1));
}

fn count(asm: &mut CodeAssembler) {
    asm.mov(ecx, 0x1234).unwrap();
    asm.push(cx).unwrap();
    asm.pop(dx).unwrap();
    asm.hlt().unwrap();
}

#[test]
fn rsm_returns_to_every_mode() {
    assert_unseen(|| Guest::real_mode(count));
    assert_unseen(|| Guest::protected_mode(count));
    assert_unseen(|| Guest::long_mode(count));
    assert_unseen(|| {
        let mut guest = Guest::protected_mode(count);
        without_long_mode(&mut guest);
        guest
    });
    assert_unseen(|| {
        let mut guest = Guest::long_mode(count);
        // With a process-context identifier.
        guest.set(Reg::Cr4, 0x2_0020);
        guest.set(Reg::Cr3, guest::PML4 | 5);
        guest
    });
    assert_unseen(|| {
        let mut guest = Guest::protected_mode(count);
        guest.set(Reg::Segment(SegReg::Gs, SegField::Attrib), 0x1_0000);
        guest
    });
}

#[test]
fn a_handler_changes_what_the_guest_returns_to() {
    let mut guest = Guest::long_mode(halt);
    handler(&mut guest, |asm| {
        asm.mov(dword_ptr(0xFFF8).cs(), 0x77).unwrap();
        asm.mov(dword_ptr(0xFF00).cs(), 0x6_0000).unwrap();
        asm.rsm().unwrap();
    });
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!((guest.gpr(Gpr::Rax) as u32, guest.rip()), (0x77, START + 1));
    assert_eq!(guest.vcpu.msr(msr::IA32_SMBASE), Ok(0x6_0000));
    guest.load(0x6_8000, &assemble(16, 0x8000, halt));
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Cs, SegField::Base)), 0x6_0000);
}

#[test]
fn rsm_of_a_state_that_cannot_be_is_a_shutdown() {
    for (name, at, value) in [
        ("paging without protection", 0xFF58, 0x8000_0010_u64),
        ("not write-through without cache disable", 0xFF58, 0xA000_0011),
        ("upper half of CR0", 0xFF5C, 1),
        ("reserved bit of CR4", 0xFF48, 0x8000_0020),
        ("long mode without PAE", 0xFF48, 0),
        ("CR3 beyond physical addresses", 0xFF54, 0x10_0000),
        ("reserved bit of EFER", 0xFED0, 0xD03),
        ("upper half of DR6", 0xFF6C, 1),
        ("upper half of DR7", 0xFF64, 1),
    ] {
        let mut guest = Guest::long_mode(halt);
        handler(&mut guest, |asm| {
            asm.mov(dword_ptr(at).cs(), value as i32).unwrap();
            asm.rsm().unwrap();
        });
        guest.vcpu.inject_smi();
        assert_eq!(guest.run(), Exit::Shutdown, "{name}");
        assert!(!guest.vcpu.in_smm(), "{name}");
        assert!(!guest.vcpu.events().nmi_blocked, "{name}");
    }
}

#[test]
fn rsm_without_a_save_area_is_a_shutdown_in_system_management_mode() {
    let mut guest = Guest::real_mode(rsm);
    guest.vcpu.set_events(&Events { smm: true, ..Events::default() });
    guest.vcpu.set_msr(msr::IA32_SMBASE, RAM - 0x1_0000 + 0x1000).unwrap();
    assert_eq!(guest.run(), Exit::Shutdown);
    assert!(guest.vcpu.in_smm());
}

#[test]
fn rsm_is_undefined_outside_of_system_management_mode() {
    let mut guest = Guest::real_mode(rsm);
    guest.load(6 * 4, &[0x00, 0x20, 0, 0]);
    guest.load(0x2000, &[0xF4]);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), 0x2001);
}

#[test]
fn a_second_smi_waits_for_rsm() {
    let mut guest = Guest::real_mode(halt);
    handler(&mut guest, |asm| {
        asm.inc(ebx).unwrap();
        asm.out(0x80, al).unwrap();
        asm.rsm().unwrap();
    });
    guest.vcpu.inject_smi();
    assert!(matches!(guest.run(), Exit::Io(_)));
    guest.vcpu.inject_smi();
    guest.vcpu.inject_smi();
    assert_eq!(guest.vcpu.complete(&[]), None);
    // The next exit is that of the second SMI, before the guest's HLT.
    assert!(matches!(guest.run(), Exit::Io(_)));
    assert!(guest.vcpu.in_smm());
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert!(!guest.vcpu.in_smm());
    assert_eq!(guest.vcpu.msr(SMI_COUNT), Ok(2));
}

#[test]
fn an_smi_wakes_a_halted_guest_which_goes_on_behind_its_halt() {
    let mut guest = Guest::real_mode(|asm| {
        asm.hlt().unwrap();
        asm.mov(bx, 7).unwrap();
        asm.hlt().unwrap();
    });
    handler(&mut guest, rsm);
    assert_eq!(guest.run(), Exit::Hlt);
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.gpr(Gpr::Rbx), 7);
}

#[test]
fn no_shadow_keeps_an_smi_out_and_rsm_brings_it_back() {
    for shadow in [Shadow::Sti, Shadow::MovSs] {
        let mut guest = Guest::real_mode(halt);
        handler(&mut guest, |asm| {
            asm.out(0x80, al).unwrap();
            asm.rsm().unwrap();
            asm.nop().unwrap();
        });
        guest.vcpu.set_events(&Events { shadow, smi_pending: true, ..Events::default() });
        assert!(matches!(guest.run(), Exit::Io(_)));
        assert_eq!(guest.vcpu.events().shadow, Shadow::None);
        assert_eq!(guest.vcpu.complete(&[]), None);
        assert_eq!(guest.vcpu.step(), None);
        assert_eq!(guest.vcpu.events().shadow, shadow);
    }
}

#[test]
fn nmis_wait_in_the_handler_as_before_it() {
    for blocked in [false, true] {
        let mut guest = Guest::real_mode(halt);
        guest.load(2 * 4, &[0x00, 0x20, 0, 0]);
        guest.load(0x2000, &[0xF4]);
        handler(&mut guest, |asm| {
            asm.out(0x80, al).unwrap();
            asm.rsm().unwrap();
        });
        let events = Events { nmi_blocked: blocked, smi_pending: true, ..Events::default() };
        guest.vcpu.set_events(&events);
        assert!(matches!(guest.run(), Exit::Io(_)));
        let events = guest.vcpu.events();
        assert!(events.nmi_blocked);
        assert_eq!(events.smm_inside_nmi, blocked);
        guest.vcpu.inject_nmi();
        assert_eq!(guest.vcpu.complete(&[]), None);
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(guest.rip(), if blocked { START + 1 } else { 0x2001 });
    }
}

#[test]
fn iret_in_the_handler_lets_nmis_in() {
    let mut guest = Guest::real_mode(halt);
    handler(&mut guest, |asm| {
        asm.mov(esp, 0x3_4000).unwrap();
        asm.pushf().unwrap();
        asm.push(cs).unwrap();
        asm.push(0x800E_u32 as i32).unwrap();
        asm.iret().unwrap();
        asm.hlt().unwrap();
    });
    guest.load(ENTRY + 0xE, &[0xF4]);
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert!(!guest.vcpu.events().nmi_blocked);
    assert!(guest.vcpu.in_smm());
}

#[test]
fn system_management_mode_has_memory_of_its_own() {
    let mut inside = Guest::new();
    let mut guest = Guest::real_mode(|asm| {
        asm.mov(ax, word_ptr(0x5000)).unwrap();
        asm.out(0x80, al).unwrap();
        asm.mov(ax, word_ptr(0x5000)).unwrap();
        asm.hlt().unwrap();
    });
    guest.vcpu = {
        let Guest { vcpu, .. } = guest;
        vcpu.with_smm_memory(inside.map.clone())
    };
    guest.load(0x5000, &[0x11]);
    inside.load(0x5000, &[0x22]);
    // The same linear addresses as the guest's code.
    let code = assemble(16, START, |asm| {
        asm.mov(bx, word_ptr(0x5000)).unwrap();
        asm.mov(word_ptr(0x5002), bx).unwrap();
        asm.rsm().unwrap();
    });
    inside.load(ENTRY, &assemble(16, 0x8000, |asm| asm.db(&[0xEA, 0, 0x10, 0, 0]).unwrap()));
    inside.load(START, &code);
    assert!(matches!(guest.run(), Exit::Io(_)));
    guest.vcpu.inject_smi();
    assert_eq!(guest.vcpu.complete(&[]), None);
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!((guest.gpr(Gpr::Rax), inside.read(0x5002)), (0x11, [0x22_u8]));
    assert_eq!(guest.read::<512>(AREA), [0; 512]);
    assert_ne!(inside.read::<512>(AREA), [0; 512]);
}

#[test]
fn rsm_loads_page_directory_pointers_from_the_memory_it_returns_to() {
    const POINTERS: u64 = 0x6000;
    let mut inside = Guest::new();
    let mut guest = Guest::protected_mode(halt);
    guest.vcpu.set_cpuid(supported_cpuid_as(Personality::Intel));
    guest.vcpu = guest.vcpu.with_smm_memory(inside.map.clone());
    guest.write_u64(POINTERS, (POINTERS + 0x1000) | 1);
    guest.write_u64(POINTERS + 0x1000, 0x83);
    guest.set(Reg::Cr3, POINTERS);
    guest.set(Reg::Cr4, 0x20);
    guest.set(Reg::Cr0, 0x8000_0011);
    inside.load(ENTRY, &assemble(16, 0x8000, rsm));
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    assert_eq!(guest.rip(), START + 1);
}

#[test]
fn the_host_puts_a_guest_into_the_other_memory() {
    let mut inside = Guest::new();
    let mut guest = Guest::real_mode(|asm| {
        asm.mov(bx, 1).unwrap();
        asm.hlt().unwrap();
    });
    guest.vcpu = {
        let Guest { vcpu, .. } = guest;
        vcpu.with_smm_memory(inside.map.clone())
    };
    assert_eq!(guest.run(), Exit::Hlt);
    inside.load(
        START,
        &assemble(16, START, |asm| {
            asm.mov(bx, 2).unwrap();
            asm.hlt().unwrap();
        }),
    );
    for (smm, seen) in [(true, 2), (false, 1)] {
        guest.vcpu.set_events(&Events { smm, ..Events::default() });
        guest.set(Reg::Rip, START);
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(guest.gpr(Gpr::Rbx), seen);
    }
}

#[test]
fn init_ends_the_mode_and_keeps_smbase() {
    let mut guest = Guest::real_mode(halt);
    handler(&mut guest, halt);
    guest.vcpu.set_msr(msr::IA32_SMBASE, SMBASE).unwrap();
    guest.vcpu.inject_smi();
    assert_eq!(guest.run(), Exit::Hlt);
    guest.vcpu.inject_smi();
    guest.vcpu.init_reset();
    assert_eq!(guest.vcpu.events(), Events::default());
    assert_eq!(guest.vcpu.msr(msr::IA32_SMBASE), Ok(SMBASE));
    assert_eq!(guest.vcpu.msr(SMI_COUNT), Ok(0));
}

#[test]
fn the_guest_has_no_smbase_msr_in_either_mode() {
    let read = |asm: &mut CodeAssembler| {
        asm.mov(ecx, 0x9E).unwrap();
        asm.rdmsr().unwrap();
        asm.hlt().unwrap();
    };
    for inside in [false, true] {
        let mut guest = Guest::real_mode(read);
        guest.load(13 * 4, &[0x00, 0x20, 0, 0]);
        guest.load(0x2000, &[0xF4]);
        guest.vcpu.set_events(&Events { smm: inside, ..Events::default() });
        assert_eq!(guest.run(), Exit::Hlt);
        assert_eq!(guest.rip(), 0x2001);
    }
}

#[test]
fn an_smi_that_cannot_save_the_state_loses_it() {
    let mut guest = Guest::real_mode(halt);
    for base in [RAM, RAM - 0xFF00, 1 << 52] {
        guest.vcpu.set_msr(msr::IA32_SMBASE, base).unwrap();
        guest.vcpu.inject_smi();
        assert_eq!(guest.run(), Exit::Lost, "{base:#x}");
        assert_eq!(guest.run(), Exit::Lost);
        guest = Guest::real_mode(halt);
    }
}

/// Puts registers, code and page tables back.
fn restore(guest: &mut Guest, registers: &[(Reg, u64)], memory: &[(u64, Vec<u8>)]) {
    guest.vcpu.set_events(&Events::default());
    for (reg, value) in registers {
        guest.set(*reg, *value);
    }
    guest.vcpu.set_msr(msr::EFER, 0xD01).unwrap();
    guest.vcpu.set_msr(msr::IA32_SMBASE, SMBASE).unwrap();
    for (gpa, bytes) in memory {
        guest.load(*gpa, bytes);
    }
}

/// Whatever a handler leaves in the area, the guest goes on somehow or shuts down.
#[test]
fn any_area_is_survived() {
    let mut seed = 0x1234_5678_9ABC_DEF0_u64;
    let mut random = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let mut returned = 0;
    for long in [true, false] {
        let mut guest = Guest::long_mode(halt);
        if !long {
            without_long_mode(&mut guest);
        }
        handler(&mut guest, |asm| {
            asm.out(0x80, al).unwrap();
            asm.rsm().unwrap();
        });
        let registers: Vec<_> =
            state_registers().into_iter().map(|reg| (reg, guest.vcpu.reg(reg))).collect();
        let memory = [ENTRY, START, guest::PML4, guest::PAGE_TABLE]
            .map(|gpa| (gpa, guest.read::<4096>(gpa).to_vec()));
        for _ in 0..1000 {
            restore(&mut guest, &registers, &memory);
            guest.vcpu.inject_smi();
            assert!(matches!(guest.run(), Exit::Io(_)));
            // A few bits of a few fields, so that some states can be loaded.
            for _ in 0..random() % 8 {
                let at = AREA + random() % 512;
                let [byte] = guest.read(at);
                guest.load(at, &[byte ^ (1 << (random() % 8))]);
            }
            assert_eq!(guest.vcpu.complete(&[]), None);
            for _ in 0..20 {
                if guest.vcpu.step() == Some(Exit::Shutdown) {
                    break;
                }
                returned += u32::from(!guest.vcpu.in_smm());
            }
        }
    }
    assert!(returned > 1000, "{returned}");
}
