//! The operand sizes of one memory access.

mod sealed {
    pub trait Sealed {}
    impl Sealed for u8 {}
    impl Sealed for u16 {}
    impl Sealed for u32 {}
    impl Sealed for u64 {}
    impl Sealed for u128 {}
}

/// An unsigned integer of 1, 2, 4, 8 or 16 bytes; every bit pattern is a value.
///
/// Only the sizes up to 8 bytes are accessed in one piece by plain loads and stores, as on
/// processors without the AVX guarantee; 16 bytes may tear into two halves of 8.
pub trait Word: sealed::Sealed + Copy + Eq + Send + Sync + 'static {
    /// Bytes in memory.
    const SIZE: usize = size_of::<Self>();

    /// Zero-extended to the widest operand.
    fn widen(self) -> u128;

    /// The low bytes of `wide`.
    fn truncate(wide: u128) -> Self;
}

macro_rules! words {
    ($($word:ty),*) => {$(
        impl Word for $word {
            #[inline(always)]
            fn widen(self) -> u128 {
                u128::from(self)
            }

            #[inline(always)]
            fn truncate(wide: u128) -> Self {
                wide as Self
            }
        }
    )*};
}

words!(u8, u16, u32, u64, u128);
