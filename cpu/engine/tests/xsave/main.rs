//! XSAVE and its family against the host's processor: the same state saved and restored by both.

#[path = "../guest/mod.rs"]
mod guest;
mod native;
#[path = "../rings/mod.rs"]
mod rings;

mod areas;
mod control;
mod exchange;
mod faults;
mod mxcsr;

use cpu_defs::{Gpr, Reg, cr4};
use guest::Guest;
use native::{Area, xgetbv};

/// Where the guest's area is.
const AT: u64 = 0x2_0000;

/// Components that host and guest can both have.
fn components() -> u64 {
    xgetbv(0) & native::KNOWN
}

/// A guest that executes these bytes on [rdi] and halts.
fn guest(instruction: &[u8]) -> Guest {
    let mut code = instruction.to_vec();
    code.push(0xF4);
    let mut guest = rings::supervisor(cr4::OSXSAVE | cr4::OSFXSR, |a| a.db(&code).unwrap());
    guest.set(Reg::Xcr0, components());
    guest.set_gpr(Gpr::Rdi, AT);
    guest
}

/// Runs its instruction again.
fn run(guest: &mut Guest) {
    guest.set(Reg::Rip, guest::START);
    guest.run_to_hlt();
}

fn set_mask(guest: &mut Guest, mask: u64) {
    guest.set_gpr(Gpr::Rax, mask & 0xFFFF_FFFF);
    guest.set_gpr(Gpr::Rdx, mask >> 32);
}

/// A state with these components and something in every byte of them.
fn state(xstate_bv: u64, seed: u8) -> Area {
    let mut area = Area::filled(0);
    for (at, byte) in area.0.iter_mut().enumerate() {
        *byte = (at as u8).wrapping_mul(31).wrapping_add(seed) | 1;
    }
    area.set(0, 0x37F_u16.to_le_bytes());
    area.set(2, 0x3800_u16.to_le_bytes());
    area.set(4, [0x81, 0]);
    area.set(6, 0x5AB_u16.to_le_bytes());
    area.set(8, 0x7FFF_1234_5678_u64.to_le_bytes());
    area.set(16, 0x7EEE_8765_4321_u64.to_le_bytes());
    area.set(24, 0x1FA0_u32.to_le_bytes());
    area.set(28, 0xFFFF_u32.to_le_bytes());
    area.set(512, [0; 64]);
    area.set(512, xstate_bv.to_le_bytes());
    area
}

/// The same with an unmasked x87 exception waiting, which shows the last-instruction pointers.
fn state_with_error(xstate_bv: u64, seed: u8) -> Area {
    let mut area = state(xstate_bv, seed);
    area.set(0, 0x37E_u16.to_le_bytes());
    area.set(2, 0xB881_u16.to_le_bytes());
    area
}

/// Length of an area in the standard format that holds [`components`].
fn components_len() -> usize {
    let present = (2..8).filter(|number| components() >> number & 1 != 0);
    let leaves = present.map(|number| std::arch::x86_64::__cpuid_count(0xD, number));
    leaves.map(|leaf| (leaf.ebx + leaf.eax) as usize).max().unwrap_or(576)
}

/// AMD's processors save the last-instruction pointers only with FSW.ES.
fn hides_pointers() -> bool {
    guest::host_is_amd()
}

/// A guest in 32-bit protected mode that executes these bytes on [edi] and halts.
fn protected_guest(instruction: &[u8]) -> Guest {
    let mut code = instruction.to_vec();
    code.push(0xF4);
    let mut guest = Guest::protected_mode(|a| a.db(&code).unwrap());
    guest.set(Reg::Cr4, cr4::OSXSAVE | cr4::OSFXSR);
    guest.set(Reg::Xcr0, components());
    guest.set_gpr(Gpr::Rdi, AT);
    guest
}
