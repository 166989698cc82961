//! The sixteen conditions of Jcc, SETcc and CMOVcc (Intel SDM volume 1, "EFLAGS Condition
//! Codes").

use crate::flags::{CF, OF, PF, SF, ZF};

/// A condition; the discriminant is the low four bits of the opcode.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Condition {
    /// Overflow: OF.
    O,
    /// No overflow.
    No,
    /// Below, carry: CF.
    B,
    /// Above or equal.
    Ae,
    /// Equal, zero: ZF.
    E,
    /// Not equal.
    Ne,
    /// Below or equal: CF or ZF.
    Be,
    /// Above.
    A,
    /// Sign: SF.
    S,
    /// No sign.
    Ns,
    /// Parity even: PF.
    P,
    /// Parity odd.
    Np,
    /// Less: SF and OF differ.
    L,
    /// Greater or equal.
    Ge,
    /// Less or equal: ZF, or SF and OF differ.
    Le,
    /// Greater.
    G,
}

impl Condition {
    /// All conditions by code.
    pub const ALL: [Self; 16] = [
        Self::O,
        Self::No,
        Self::B,
        Self::Ae,
        Self::E,
        Self::Ne,
        Self::Be,
        Self::A,
        Self::S,
        Self::Ns,
        Self::P,
        Self::Np,
        Self::L,
        Self::Ge,
        Self::Le,
        Self::G,
    ];

    /// The condition of an opcode; bits 7:4 are ignored.
    #[inline]
    pub const fn from_code(code: u8) -> Self {
        Self::ALL[(code & 15) as usize]
    }

    /// Whether the condition holds under these RFLAGS (only status flags are read).
    #[inline]
    pub const fn holds(self, flags: u32) -> bool {
        let less = (flags & SF != 0) != (flags & OF != 0);
        match self {
            Self::O => flags & OF != 0,
            Self::No => flags & OF == 0,
            Self::B => flags & CF != 0,
            Self::Ae => flags & CF == 0,
            Self::E => flags & ZF != 0,
            Self::Ne => flags & ZF == 0,
            Self::Be => flags & (CF | ZF) != 0,
            Self::A => flags & (CF | ZF) == 0,
            Self::S => flags & SF != 0,
            Self::Ns => flags & SF == 0,
            Self::P => flags & PF != 0,
            Self::Np => flags & PF == 0,
            Self::L => less,
            Self::Ge => !less,
            Self::Le => flags & ZF != 0 || less,
            Self::G => flags & ZF == 0 && !less,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_those_of_the_opcode() {
        for (code, condition) in Condition::ALL.into_iter().enumerate() {
            assert_eq!(condition as usize, code);
            assert_eq!(Condition::from_code(code as u8 | 0x70), condition);
        }
    }

    #[test]
    fn an_odd_code_is_the_opposite_of_the_even_code_before_it() {
        for flags in 0..=crate::flags::STATUS {
            for pair in Condition::ALL.chunks(2) {
                assert_ne!(pair[0].holds(flags), pair[1].holds(flags));
            }
        }
    }
}
