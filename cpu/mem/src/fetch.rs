//! Locked fetch-and-modify: what `LOCK ADD`, `LOCK XADD`, `LOCK AND`, `XCHG` and the like need.
//!
//! An aligned operand uses the host's own locked instruction; any other goes through
//! [`HostPage::update`] with its rules for misaligned operands.
#![allow(unsafe_code)]

use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};

use crate::{HostPage, Word};

macro_rules! fetch_operations {
    ($($(#[$doc:meta])* $name:ident => $native:ident, $modify:expr;)*) => {
        impl HostPage {$(
            $(#[$doc])*
            /// Returns the old value. The page must have `WRITE`.
            ///
            /// # Panics
            /// When the value reaches beyond the page.
            #[inline]
            pub fn $name<T: Word>(self, offset: usize, value: T) -> T {
                if !offset.is_multiple_of(T::SIZE) || T::SIZE > 8 {
                    let modify: fn(u128, u128) -> u128 = $modify;
                    return self.update(offset, |old: T| {
                        T::truncate(modify(old.widen(), value.widen()))
                    });
                }
                let pointer = self.at(offset, T::SIZE);
                let wide = value.widen();
                // SAFETY: `at` proved the bytes inside the page, which `map_page` promised stays
                // mapped; the offset is a multiple of the size and pages are aligned.
                let old = unsafe {
                    let order = Ordering::SeqCst;
                    match T::SIZE {
                        1 => u128::from(AtomicU8::from_ptr(pointer).$native(wide as u8, order)),
                        2 => u128::from(
                            AtomicU16::from_ptr(pointer.cast()).$native(wide as u16, order),
                        ),
                        4 => u128::from(
                            AtomicU32::from_ptr(pointer.cast()).$native(wide as u32, order),
                        ),
                        _ => u128::from(
                            AtomicU64::from_ptr(pointer.cast()).$native(wide as u64, order),
                        ),
                    }
                };
                T::truncate(old)
            }
        )*}
    };
}

fetch_operations! {
    /// Adds `value`, modulo the operand size, in one locked step.
    fetch_add => fetch_add, |old, value| old.wrapping_add(value);
    /// Subtracts `value`, modulo the operand size, in one locked step.
    fetch_sub => fetch_sub, |old, value| old.wrapping_sub(value);
    /// Clears the bits that are clear in `value`, in one locked step.
    fetch_and => fetch_and, |old, value| old & value;
    /// Sets the bits that are set in `value`, in one locked step.
    fetch_or => fetch_or, |old, value| old | value;
    /// Inverts the bits that are set in `value`, in one locked step.
    fetch_xor => fetch_xor, |old, value| old ^ value;
    /// Stores `value`, in one locked step.
    swap => swap, |_, value| value;
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PageFlags;
    use crate::phys_map::tests::page_of;

    type Operation<T> = (fn(HostPage, usize, T) -> T, fn(u128, u128) -> u128);

    fn agrees_with_arithmetic<T: Word + std::fmt::Debug>() {
        let page = page_of(PageFlags::ALL);
        let operations: [Operation<T>; 6] = [
            (HostPage::fetch_add, u128::wrapping_add),
            (HostPage::fetch_sub, u128::wrapping_sub),
            (HostPage::fetch_and, |old, value| old & value),
            (HostPage::fetch_or, |old, value| old | value),
            (HostPage::fetch_xor, |old, value| old ^ value),
            (HostPage::swap, |_, value| value),
        ];
        let old = T::truncate(u128::MAX / 3 - 1);
        let value = T::truncate(u128::MAX / 5 * 4);
        for offset in [0, 1, 13, 15, 16] {
            for (fetch, modify) in operations {
                page.store(offset, old);
                assert_eq!(fetch(page, offset, value), old);
                let expected = T::truncate(modify(old.widen(), value.widen()));
                assert_eq!(page.load::<T>(offset), expected, "offset {offset}");
            }
        }
    }

    #[test]
    fn every_operation_returns_the_old_value_and_stores_the_new_one() {
        agrees_with_arithmetic::<u8>();
        agrees_with_arithmetic::<u16>();
        agrees_with_arithmetic::<u32>();
        agrees_with_arithmetic::<u64>();
        agrees_with_arithmetic::<u128>();
    }

    #[test]
    fn concurrent_additions_are_not_lost() {
        const TURNS: u32 = if cfg!(miri) { 50 } else { 20_000 };
        let page = page_of(PageFlags::ALL);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..TURNS {
                        page.fetch_add(8, 1_u32);
                    }
                });
            }
        });
        assert_eq!(page.load::<u32>(8), 2 * TURNS);
    }
}
