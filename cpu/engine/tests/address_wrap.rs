//! Linear addresses at the ends of their range.

mod guest;

use cpu_defs::{Gpr, Reg, SegField, SegReg, msr};
use guest::{Guest, PAGE_TABLE, PML4, START, assemble};
use iced_x86::code_asm::*;

#[test]
fn compatibility_mode_wraps_at_four_gibibytes() {
    let mut guest = Guest::long_mode(|_| {});
    let code = assemble(32, START, |a| {
        a.mov(eax, dword_ptr(0xE)).unwrap();
        a.hlt().unwrap();
    });
    guest.load(START, &code);
    guest.set_flat(SegReg::Cs, 8, 0xC09B);
    guest.set(Reg::Segment(SegReg::Ds, SegField::Base), 0xFFFF_FFF0);
    // The last page below 4 GiB leads to 0x1FF000, page 0 to itself, what is above to nothing.
    guest.write_u64(PML4 + 0x1000 + 3 * 8, (PML4 + 0x2000) | 7);
    guest.write_u64(PML4 + 0x2000 + 511 * 8, PAGE_TABLE | 7);
    guest.load(0x1F_FFFE, &[0x11, 0x22]);
    guest.load(0, &[0x33, 0x44]);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 0x4433_2211);
}

#[test]
fn nxe_and_lme_are_bits_of_features() {
    for (hidden, bit) in [(1 << 20, 1 << 11), (1 << 29, 1 << 8)] {
        let mut guest = Guest::protected_mode(|a| {
            a.mov(ecx, msr::EFER).unwrap();
            a.xor(edx, edx).unwrap();
            a.wrmsr().unwrap();
            a.hlt().unwrap();
        });
        guest.set_gpr(Gpr::Rax, bit);
        let mut table = cpu_engine::supported_cpuid();
        let leaf = table.iter_mut().find(|entry| entry.function == 0x8000_0001);
        leaf.expect("it is offered").edx &= !hidden;
        guest.vcpu.set_cpuid(table);
        // No IDT: the fault ends in a shutdown.
        guest.set(Reg::Idtr(cpu_defs::TableField::Limit), 0);
        assert_eq!(guest.run(), cpu_engine::Exit::Shutdown, "{bit:#x}");
    }
}
