//! The values that operands and flags take, and the comparison.

use cpu_alu::Width;
use cpu_alu::flags::{AF, CF, STATUS, ZF};

/// Flags before the instruction: none, all, and the ones that instructions read.
pub const FLAGS: [u32; 5] = [0, STATUS, CF, AF, STATUS & !(CF | ZF)];

/// Pseudo-random numbers, the same in each run (SplitMix64).
pub struct Random(u64);

impl Random {
    pub fn new() -> Self {
        Self(0x5eed)
    }

    /// A number of random length, so that small operands occur as often as large ones.
    pub fn next<W: Width>(&mut self) -> W {
        let length = self.bits() % 64;
        W::from_u64(self.bits() >> length)
    }

    fn bits(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

/// Values around carries, signs and digit borders.
pub fn corners<W: Width>() -> Vec<W> {
    let top = 1_u64 << (W::BITS - 1);
    [
        0,
        1,
        2,
        7,
        8,
        9,
        0xa,
        0xf,
        0x10,
        0x7f,
        0x80,
        0xff,
        0x100,
        0x7fff,
        0x8000,
        0xffff,
        0x7fff_ffff,
        0x8000_0000,
        0xffff_ffff,
        top - 1,
        top,
        top + 1,
        0x5555_5555_5555_5555,
        0xaaaa_aaaa_aaaa_aaaa,
        u64::MAX - 1,
        u64::MAX,
    ]
    .map(W::from_u64)
    .to_vec()
}

/// All values of a byte, or corners and random values.
pub fn values<W: Width>() -> Vec<W> {
    if W::BITS == 8 {
        return (0..256).map(W::from_u64).collect();
    }
    let mut random = Random::new();
    let mut values = corners();
    values.extend((0..100).map(|_| random.next::<W>()));
    values
}

/// Fails where results differ, or flags that the manual defines.
#[track_caller]
pub fn agree<R: PartialEq + std::fmt::Debug>(
    case: impl Fn() -> String,
    ours: (R, u32),
    host: (R, u32),
    undefined: u32,
) {
    assert_eq!(ours.1 & !STATUS, 0, "{}: flags beyond the status flags", case());
    let differing = (ours.1 ^ host.1) & !undefined;
    assert!(
        ours.0 == host.0 && differing == 0,
        "{}: {ours:x?}, the processor says {host:x?}; flags differ in {differing:#x}",
        case()
    );
}

/// Compares an instruction of two operands.
#[track_caller]
pub fn compare_binary<W: Width>(
    ours: impl Fn(W, W, u32) -> (W, u32),
    host: impl Fn(W, W, u32) -> (W, u32),
    undefined: u32,
) {
    let values = values::<W>();
    for &a in &values {
        for &b in &values {
            for flags in FLAGS {
                let case = || format!("{a:x?}, {b:x?}, flags {flags:#x}");
                agree(case, ours(a, b, flags), host(a, b, flags), undefined);
            }
        }
    }
}

/// Compares an instruction of one operand.
#[track_caller]
pub fn compare_unary<W: Width>(
    ours: impl Fn(W, u32) -> (W, u32),
    host: impl Fn(W, u32) -> (W, u32),
    undefined: u32,
) {
    for a in values::<W>() {
        for flags in FLAGS {
            let case = || format!("{a:x?}, flags {flags:#x}");
            agree(case, ours(a, flags), host(a, flags), undefined);
        }
    }
}
