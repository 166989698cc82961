//! ROL, ROR, RCL, RCR, SHL, SHR, SAR, SHLD, SHRD.

use cpu_alu::flags::AF;
use cpu_alu::{Width, rotate, shift, undefined};

use crate::operands::{FLAGS, agree, corners, values};
use crate::{host_count, host_double_count};

fn compare<W: Width>(
    ours: impl Fn(W, u8, u32) -> (W, u32),
    host: impl Fn(W, u8, u32) -> (W, u32),
    undefined: impl Fn(u32, u32) -> u32,
) {
    for a in values::<W>() {
        for count in (0..=66).chain([127, 128, 129, 255]) {
            for flags in FLAGS {
                let undefined = undefined(W::BITS, W::mask_count(count));
                let case = || format!("{a:x?} by {count}, flags {flags:#x}");
                agree(case, ours(a, count, flags), host(a, count, flags), undefined);
            }
        }
    }
}

fn host_is_amd() -> bool {
    std::arch::x86_64::__cpuid(0).ecx == u32::from_le_bytes(*b"cAMD")
}

fn compare_double<W: Width>(
    ours: impl Fn(W, W, u8, u32) -> (W, u32),
    host: impl Fn(W, W, u8, u32) -> (W, u32),
) {
    for a in corners::<W>() {
        for b in values::<W>() {
            for count in 0..=70 {
                let masked = W::mask_count(count);
                if masked > W::BITS && !host_is_amd() {
                    continue;
                }
                for flags in FLAGS {
                    // Above the operand size everything is undefined, and held to Zen 5 here.
                    let above = masked > W::BITS;
                    let undefined =
                        if above { AF } else { undefined::shift_double(W::BITS, masked) };
                    let case = || format!("{a:x?}:{b:x?} by {count}, flags {flags:#x}");
                    agree(case, ours(a, b, count, flags), host(a, b, count, flags), undefined);
                }
            }
        }
    }
}

macro_rules! by_count {
    ($($name:ident: $op:literal, $ours:expr, undefined $undefined:expr;)*) => {$(
        #[test]
        fn $name() {
            compare::<u8>($ours, host_count!($op, u8), $undefined);
            compare::<u16>($ours, host_count!($op, u16), $undefined);
            compare::<u32>($ours, host_count!($op, u32), $undefined);
            compare::<u64>($ours, host_count!($op, u64), $undefined);
        }
    )*};
}

by_count! {
    rol: "rol", rotate::rol, undefined |_, count| undefined::rotate(count);
    ror: "ror", rotate::ror, undefined |_, count| undefined::rotate(count);
    rcl: "rcl", rotate::rcl, undefined |_, count| undefined::rotate(count);
    rcr: "rcr", rotate::rcr, undefined |_, count| undefined::rotate(count);
    shl: "shl", shift::shl, undefined undefined::shift_logical;
    shr: "shr", shift::shr, undefined undefined::shift_logical;
    sar: "sar", shift::sar, undefined |_, count| undefined::shift_arithmetic(count);
}

#[test]
fn shld() {
    compare_double::<u16>(shift::shld, host_double_count!("shld", u16, ":x"));
    compare_double::<u32>(shift::shld, host_double_count!("shld", u32, ":e"));
    compare_double::<u64>(shift::shld, host_double_count!("shld", u64, ":r"));
}

#[test]
fn shrd() {
    compare_double::<u16>(shift::shrd, host_double_count!("shrd", u16, ":x"));
    compare_double::<u32>(shift::shrd, host_double_count!("shrd", u32, ":e"));
    compare_double::<u64>(shift::shrd, host_double_count!("shrd", u64, ":r"));
}
