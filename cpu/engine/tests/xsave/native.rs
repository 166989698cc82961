//! The same instructions on the host, between a save and a restore of this thread's own state.

use std::arch::asm;

/// An XSAVE area.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(64))]
pub struct Area(pub [u8; 4096]);

impl Area {
    pub fn filled(byte: u8) -> Self {
        Area([byte; 4096])
    }

    pub fn set<const N: usize>(&mut self, at: usize, bytes: [u8; N]) {
        self.0[at..at + N].copy_from_slice(&bytes);
    }

    pub fn u64(&self, at: usize) -> u64 {
        u64::from_le_bytes(std::array::from_fn(|byte| self.0[at + byte]))
    }
}

/// XCR0, or what of it is in use.
#[allow(unsafe_code)]
pub fn xgetbv(number: u32) -> u64 {
    let (low, high): (u32, u32);
    // SAFETY: reads a register that exists where XSAVE is enabled, which Linux does.
    unsafe {
        asm!("xgetbv", in("ecx") number, out("eax") low, out("edx") high, options(nomem, nostack));
    }
    u64::from(low) | u64::from(high) << 32
}

/// Components that an [`Area`] has room for.
pub const KNOWN: u64 = 0xE7;

/// Components that the host alone has.
fn others() -> u64 {
    xgetbv(0) & !KNOWN
}

/// Saving instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Save {
    Xsave,
    Xsave64,
    Xsaveopt64,
    Xsavec64,
    Fxsave,
    Fxsave64,
}

macro_rules! between {
    ($own:ident, $text:expr, $($operands:tt)*) => {
        // SAFETY: the instructions write nothing but the areas, and the thread's own state is
        // saved first and put back last.
        unsafe {
            asm!(
                "mov r8d, eax", "mov r9d, edx",
                "mov eax, {known}", "xor edx, edx",
                "xsave64 [{own}]",
                $text,
                "mov eax, {known}", "xor edx, edx",
                "xrstor64 [{own}]",
                own = in(reg) &raw mut $own, known = const KNOWN,
                out("r8") _, out("r9") _,
                $($operands)*
            );
        }
    };
}

/// Loads `state` (standard format, everything), then executes `save` with this mask on `to`.
#[allow(unsafe_code)]
pub fn save(save: Save, state: &Area, mask: u64, to: &mut Area) {
    let mut own = Area::filled(0);
    let mask = mask & !others();
    macro_rules! with {
        ($text:literal) => {
            between!(
                own, concat!("xrstor64 [{state}]\nmov eax, r8d\nmov edx, r9d\n", $text, " [{to}]"),
                state = in(reg) state, to = in(reg) to,
                inlateout("eax") mask as u32 => _, inlateout("edx") (mask >> 32) as u32 => _,
            )
        };
    }
    match save {
        Save::Xsave => with!("xsave"),
        Save::Xsave64 => with!("xsave64"),
        Save::Xsaveopt64 => with!("xsaveopt64"),
        Save::Xsavec64 => with!("xsavec64"),
        Save::Fxsave => with!("fxsave"),
        Save::Fxsave64 => with!("fxsave64"),
    }
}

/// Restoring instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restore {
    Xrstor,
    Xrstor64,
    Fxrstor,
    Fxrstor64,
}

/// Loads `state`, executes `restore` with this mask on `from`, and returns the state.
#[allow(unsafe_code)]
pub fn restore(restore: Restore, state: &Area, mask: u64, from: &Area) -> Area {
    let (mut own, mut to) = (Area::filled(0), Area::filled(0));
    let mask = mask & !others();
    macro_rules! with {
        ($text:literal) => {
            between!(
                own, concat!("xrstor64 [{state}]\nmov eax, r8d\nmov edx, r9d\n", $text,
                " [{from}]\nmov eax, {known}\nxor edx, edx\nxsave64 [{to}]"),
                state = in(reg) state, from = in(reg) from, to = in(reg) &raw mut to,
                inlateout("eax") mask as u32 => _, inlateout("edx") (mask >> 32) as u32 => _,
            )
        };
    }
    match restore {
        Restore::Xrstor => with!("xrstor"),
        Restore::Xrstor64 => with!("xrstor64"),
        Restore::Fxrstor => with!("fxrstor"),
        Restore::Fxrstor64 => with!("fxrstor64"),
    }
    to
}
