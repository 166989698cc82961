//! One instruction on the processor of the host, flags in and out, as a closure.
//!
//! `popfq` takes only status flags over the fixed bit 1 and IF, so tracing and direction stay as
//! they are.

/// RFLAGS of a program in user mode, without status flags.
pub const PLAIN: u64 = 0x202;

/// `op a, b`: (a, b, flags) -> (a, flags).
#[macro_export]
macro_rules! host_binary {
    ($op:literal, u8) => {
        $crate::host_binary!(@ $op, u8, reg_byte, "")
    };
    ($op:literal, u16) => {
        $crate::host_binary!(@ $op, u16, reg, ":x")
    };
    ($op:literal, u32) => {
        $crate::host_binary!(@ $op, u32, reg, ":e")
    };
    ($op:literal, u64) => {
        $crate::host_binary!(@ $op, u64, reg, ":r")
    };
    (@ $op:literal, $word:ty, $class:ident, $size:literal) => {
        |mut a: $word, b: $word, flags: u32| -> ($word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            // SAFETY: changes only the named registers, the flags, and the stack by balanced
            // pushes.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {a", $size, "}, {b", $size, "}"),
                    "pushfq",
                    "pop {f}",
                    a = inout($class) a,
                    b = in($class) b,
                    f = inout(reg) rflags,
                );
            }
            (a, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}

/// `op a`: (a, flags) -> (a, flags).
#[macro_export]
macro_rules! host_unary {
    ($op:literal, u8) => {
        $crate::host_unary!(@ $op, u8, reg_byte, "")
    };
    ($op:literal, u16) => {
        $crate::host_unary!(@ $op, u16, reg, ":x")
    };
    ($op:literal, u32) => {
        $crate::host_unary!(@ $op, u32, reg, ":e")
    };
    ($op:literal, u64) => {
        $crate::host_unary!(@ $op, u64, reg, ":r")
    };
    (@ $op:literal, $word:ty, $class:ident, $size:literal) => {
        |mut a: $word, flags: u32| -> ($word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            // SAFETY: as in `host_binary`.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {a", $size, "}"),
                    "pushfq",
                    "pop {f}",
                    a = inout($class) a,
                    f = inout(reg) rflags,
                );
            }
            (a, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}

/// `op a, cl`: (a, count, flags) -> (a, flags).
#[macro_export]
macro_rules! host_count {
    ($op:literal, u8) => {
        $crate::host_count!(@ $op, u8, reg_byte, "")
    };
    ($op:literal, u16) => {
        $crate::host_count!(@ $op, u16, reg, ":x")
    };
    ($op:literal, u32) => {
        $crate::host_count!(@ $op, u32, reg, ":e")
    };
    ($op:literal, u64) => {
        $crate::host_count!(@ $op, u64, reg, ":r")
    };
    (@ $op:literal, $word:ty, $class:ident, $size:literal) => {
        |mut a: $word, count: u8, flags: u32| -> ($word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            // SAFETY: as in `host_binary`.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {a", $size, "}, cl"),
                    "pushfq",
                    "pop {f}",
                    a = inout($class) a,
                    in("cl") count,
                    f = inout(reg) rflags,
                );
            }
            (a, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}

/// `op a, b, cl`: (a, b, count, flags) -> (a, flags).
#[macro_export]
macro_rules! host_double_count {
    ($op:literal, $word:ty, $size:literal) => {
        |mut a: $word, b: $word, count: u8, flags: u32| -> ($word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            // SAFETY: as in `host_binary`.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {a", $size, "}, {b", $size, "}, cl"),
                    "pushfq",
                    "pop {f}",
                    a = inout(reg) a,
                    b = in(reg) b,
                    in("cl") count,
                    f = inout(reg) rflags,
                );
            }
            (a, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}

/// `op to, a, b`, with a destination that is not read: (a, b, flags) -> (to, flags).
#[macro_export]
macro_rules! host_three {
    ($op:literal, u32) => {
        $crate::host_three!(@ $op, u32, ":e")
    };
    ($op:literal, u64) => {
        $crate::host_three!(@ $op, u64, ":r")
    };
    (@ $op:literal, $word:ty, $size:literal) => {
        |a: $word, b: $word, flags: u32| -> ($word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            let to: $word;
            // SAFETY: as in `host_binary`.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {to", $size, "}, {a", $size, "}, {b", $size, "}"),
                    "pushfq",
                    "pop {f}",
                    to = out(reg) to,
                    a = in(reg) a,
                    b = in(reg) b,
                    f = inout(reg) rflags,
                );
            }
            (to, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}

/// The one-operand form with the fixed registers AX and DX (AL, AH for bytes):
/// (low, high, operand, flags) -> (low, high, flags).
#[macro_export]
macro_rules! host_accumulator {
    ($op:literal, u8) => {
        |low: u8, high: u8, operand: u8, flags: u32| -> (u8, u8, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            let mut ax = u16::from_le_bytes([low, high]);
            // SAFETY: as in `host_binary`; callers divide only where the quotient fits.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {b}"),
                    "pushfq",
                    "pop {f}",
                    b = in(reg_byte) operand,
                    f = inout(reg) rflags,
                    inout("ax") ax,
                );
            }
            let [low, high] = ax.to_le_bytes();
            (low, high, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
    ($op:literal, u16) => {
        $crate::host_accumulator!(@ $op, u16, "ax", "dx", ":x")
    };
    ($op:literal, u32) => {
        $crate::host_accumulator!(@ $op, u32, "eax", "edx", ":e")
    };
    ($op:literal, u64) => {
        $crate::host_accumulator!(@ $op, u64, "rax", "rdx", ":r")
    };
    (@ $op:literal, $word:ty, $low:tt, $high:tt, $size:literal) => {
        |mut low: $word, mut high: $word, operand: $word, flags: u32| -> ($word, $word, u32) {
            let mut rflags = u64::from(flags) | $crate::host::PLAIN;
            // SAFETY: as in `host_binary`; callers divide only where the quotient fits.
            unsafe {
                std::arch::asm!(
                    "push {f}",
                    "popfq",
                    concat!($op, " {b", $size, "}"),
                    "pushfq",
                    "pop {f}",
                    b = in(reg) operand,
                    f = inout(reg) rflags,
                    inout($low) low,
                    inout($high) high,
                );
            }
            (low, high, rflags as u32 & cpu_alu::flags::STATUS)
        }
    };
}
