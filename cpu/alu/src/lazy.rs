//! Status flags computed when they are asked for.
//!
//! Most flags are overwritten unread. [`LazyFlags`] keeps what the last instruction computed with
//! and derives one flag, or one condition, from it. Instructions that are rare or whose flags are
//! cheap are kept as computed flags ([`LazyFlags::eager`]).

use crate::flags::{
    self, CF, borrows_of_difference, carries_of_sum, even_parity, of_carries, when,
};
use crate::{Condition, Width};

/// What kind of instruction produced the flags; says how the fields of [`LazyFlags`] are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Op {
    /// `src` is the status flags themselves.
    Eager,
    /// `dst + src`, with or without a carry.
    Add,
    /// `dst - src`.
    Sub,
    /// `dst - src` with a borrow.
    Sbb,
    /// CF, OF and AF clear.
    Logic,
    /// `dst + 1`; `src` is the older CF.
    Inc,
    /// `dst - 1`; `src` is the older CF.
    Dec,
}

/// The flags of the last instruction that wrote flags, not yet computed.
///
/// Constructors named like an instruction return its result too. Operands are zero-extended.
#[derive(Clone, Copy, Debug)]
pub struct LazyFlags {
    dst: u64,
    src: u64,
    result: u64,
    op: Op,
    /// Bits in the operand.
    width: u8,
}

impl LazyFlags {
    /// Flags that are computed already; only [`flags::STATUS`] is kept.
    #[inline]
    pub fn eager(status: u32) -> Self {
        let src = u64::from(status & flags::STATUS);
        Self { dst: 0, src, result: 0, op: Op::Eager, width: 64 }
    }

    /// ADD.
    #[inline]
    pub fn add<W: Width>(a: W, b: W) -> (W, Self) {
        Self::adc(a, b, false)
    }

    /// ADC: `carry` is CF.
    #[inline]
    pub fn adc<W: Width>(a: W, b: W, carry: bool) -> (W, Self) {
        let sum = a.to_u64().wrapping_add(b.to_u64()).wrapping_add(u64::from(carry));
        Self::of(Op::Add, a, b.to_u64(), W::from_u64(sum))
    }

    /// SUB.
    #[inline]
    pub fn sub<W: Width>(a: W, b: W) -> (W, Self) {
        let difference = a.to_u64().wrapping_sub(b.to_u64());
        Self::of(Op::Sub, a, b.to_u64(), W::from_u64(difference))
    }

    /// SBB: `borrow` is CF.
    #[inline]
    pub fn sbb<W: Width>(a: W, b: W, borrow: bool) -> (W, Self) {
        let difference = a.to_u64().wrapping_sub(b.to_u64()).wrapping_sub(u64::from(borrow));
        Self::of(Op::Sbb, a, b.to_u64(), W::from_u64(difference))
    }

    /// CMP.
    #[inline]
    pub fn cmp<W: Width>(a: W, b: W) -> Self {
        Self::sub(a, b).1
    }

    /// NEG.
    #[inline]
    pub fn neg<W: Width>(a: W) -> (W, Self) {
        Self::sub(W::from_u64(0), a)
    }

    /// INC: `carry` is the CF to keep.
    #[inline]
    pub fn inc<W: Width>(a: W, carry: bool) -> (W, Self) {
        Self::of(Op::Inc, a, u64::from(carry), W::from_u64(a.to_u64().wrapping_add(1)))
    }

    /// DEC: `carry` is the CF to keep.
    #[inline]
    pub fn dec<W: Width>(a: W, carry: bool) -> (W, Self) {
        Self::of(Op::Dec, a, u64::from(carry), W::from_u64(a.to_u64().wrapping_sub(1)))
    }

    /// AND, OR, XOR, TEST: from their result.
    #[inline]
    pub fn logic<W: Width>(result: W) -> Self {
        Self::of(Op::Logic, result, 0, result).1
    }

    #[inline(always)]
    fn of<W: Width>(op: Op, dst: W, src: u64, result: W) -> (W, Self) {
        let (dst, wide) = (dst.to_u64(), result.to_u64());
        (result, Self { dst, src, result: wide, op, width: W::BITS as u8 })
    }

    /// All six flags.
    pub fn flags(&self) -> u32 {
        if self.op == Op::Eager {
            return self.src as u32;
        }
        let arithmetic = match self.width {
            8 => of_carries::<u8>(self.carries()),
            16 => of_carries::<u16>(self.carries()),
            32 => of_carries::<u32>(self.carries()),
            _ => of_carries::<u64>(self.carries()),
        };
        (arithmetic & !CF)
            | when(self.cf(), flags::CF)
            | when(self.zf(), flags::ZF)
            | when(self.sf(), flags::SF)
            | when(self.pf(), flags::PF)
    }

    /// Carry flag.
    #[inline]
    pub fn cf(&self) -> bool {
        match self.op {
            Op::Sub => self.dst < self.src,
            Op::Logic => false,
            Op::Add | Op::Sbb => self.top_bit(self.carries()),
            Op::Eager | Op::Inc | Op::Dec => self.src & u64::from(CF) != 0,
        }
    }

    /// Parity flag.
    #[inline]
    pub fn pf(&self) -> bool {
        self.or_eager(flags::PF, |lazy| even_parity(lazy.result))
    }

    /// Auxiliary carry flag.
    #[inline]
    pub fn af(&self) -> bool {
        self.or_eager(flags::AF, |lazy| lazy.carries() & 8 != 0)
    }

    /// Zero flag.
    #[inline]
    pub fn zf(&self) -> bool {
        self.or_eager(flags::ZF, |lazy| lazy.result == 0)
    }

    /// Sign flag.
    #[inline]
    pub fn sf(&self) -> bool {
        self.or_eager(flags::SF, |lazy| lazy.top_bit(lazy.result))
    }

    /// Overflow flag.
    #[inline]
    pub fn of_flag(&self) -> bool {
        self.or_eager(flags::OF, |lazy| {
            let carries = lazy.carries();
            lazy.top_bit(carries ^ (carries << 1))
        })
    }

    /// Whether a condition holds; the comparisons after SUB and CMP need no flags at all.
    #[inline]
    pub fn condition(&self, condition: Condition) -> bool {
        use Condition::{A, Ae, B, Be, E, G, Ge, L, Le, Ne, No, Np, Ns, O, P, S};
        match condition {
            O => self.of_flag(),
            No => !self.of_flag(),
            B => self.cf(),
            Ae => !self.cf(),
            E => self.zf(),
            Ne => !self.zf(),
            Be => self.cf() || self.zf(),
            A => !(self.cf() || self.zf()),
            S => self.sf(),
            Ns => !self.sf(),
            P => self.pf(),
            Np => !self.pf(),
            L => self.less(),
            Ge => !self.less(),
            Le => self.zf() || self.less(),
            G => !(self.zf() || self.less()),
        }
    }

    /// SF differs from OF.
    #[inline]
    fn less(&self) -> bool {
        match self.op {
            Op::Sub => self.signed(self.dst) < self.signed(self.src),
            Op::Logic => self.top_bit(self.result),
            _ => self.sf() != self.of_flag(),
        }
    }

    #[inline(always)]
    fn or_eager(&self, flag: u32, derive: impl Fn(&Self) -> bool) -> bool {
        match self.op {
            Op::Eager => self.src & u64::from(flag) != 0,
            _ => derive(self),
        }
    }

    /// Carries or borrows out of each bit of the operation; CF of INC and DEC is not among them.
    #[inline]
    fn carries(&self) -> u64 {
        match self.op {
            Op::Add => carries_of_sum(self.dst, self.src, self.result),
            Op::Sub | Op::Sbb => borrows_of_difference(self.dst, self.src, self.result),
            Op::Inc => carries_of_sum(self.dst, 1, self.result),
            Op::Dec => borrows_of_difference(self.dst, 1, self.result),
            Op::Eager | Op::Logic => 0,
        }
    }

    #[inline(always)]
    fn top_bit(&self, value: u64) -> bool {
        (value >> (self.width - 1)) & 1 != 0
    }

    /// An operand, moved up so that its sign is bit 63; comparisons stay as they are.
    #[inline(always)]
    fn signed(&self, operand: u64) -> i64 {
        (operand << (64 - self.width)) as i64
    }
}

impl Default for LazyFlags {
    /// All flags clear.
    fn default() -> Self {
        Self::eager(0)
    }
}
