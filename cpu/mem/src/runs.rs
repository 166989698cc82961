//! Copying and filling runs of elements, by the instructions that a guest does it with.
//!
//! So they are as fast and as atomic as MOVS and STOS with a repeat prefix are on the host (SDM volume
//! 3, "Fast-String Operation and Out-of-Order Stores").
//!
//! `unsafe`: assembly.
#![allow(unsafe_code)]

use crate::{HostPage, PageFlags, Word};

/// Shorter runs are not worth a repeat prefix.
#[cfg(not(miri))]
const SHORT: usize = 64;
/// Bytes that such runs go by. The end of a line is none between those of an aligned element.
const WORD: usize = 8;

impl HostPage {
    /// Copies `count` elements from `offset` on to `to` at `to_offset`, in ascending order. `to` must
    /// have [`PageFlags::WRITE`].
    ///
    /// # Panics
    /// When a run reaches beyond its page.
    pub fn copy_run<T: Word>(self, offset: usize, to: HostPage, to_offset: usize, count: usize) {
        debug_assert!(to.flags().contains(PageFlags::WRITE), "store to a read-only page");
        let bytes = count.saturating_mul(T::SIZE);
        let (from, into) = (self.at(offset, bytes), to.at(to_offset, bytes));
        #[cfg(not(miri))]
        if bytes > SHORT {
            // SAFETY: `at` proved both runs inside of pages that `map_page` promised stay mapped, the
            // second one writable; no Rust reference to them exists.
            return unsafe { repeat_movs::<T>(from, into, count) };
        }
        let _ = (from, into);
        let words = bytes - bytes % WORD;
        for at in (0..words).step_by(WORD) {
            to.store(to_offset + at, self.load::<u64>(offset + at));
        }
        for at in (words..bytes).step_by(T::SIZE) {
            to.store(to_offset + at, self.load::<T>(offset + at));
        }
    }

    /// Stores `value` to `count` elements from `offset` on, in ascending order. The page must have
    /// [`PageFlags::WRITE`].
    ///
    /// # Panics
    /// When the run reaches beyond the page.
    pub fn fill_run<T: Word>(self, offset: usize, value: T, count: usize) {
        debug_assert!(self.flags().contains(PageFlags::WRITE), "store to a read-only page");
        let bytes = count.saturating_mul(T::SIZE);
        let into = self.at(offset, bytes);
        #[cfg(not(miri))]
        if bytes > SHORT {
            // SAFETY: as in `copy_run`.
            return unsafe { repeat_stos(into, value, count) };
        }
        let _ = into;
        let words = if T::SIZE > WORD { 0 } else { bytes - bytes % WORD };
        let elements = (0..WORD).step_by(T::SIZE);
        let word = elements.fold(0, |word, at| word | value.widen() << (8 * at)) as u64;
        for at in (0..words).step_by(WORD) {
            self.store(offset + at, word);
        }
        for at in (words..bytes).step_by(T::SIZE) {
            self.store(offset + at, value);
        }
    }
}

/// # Safety
/// `count` elements are mapped at both places, the second ones writable, and no Rust reference to them
/// exists.
#[cfg(not(miri))]
unsafe fn repeat_movs<T: Word>(from: *const u8, to: *mut u8, count: usize) {
    macro_rules! movs {
        ($instruction:literal) => {
            // SAFETY: it moves what the caller promises; the direction flag is clear, as everywhere.
            unsafe {
                std::arch::asm!(
                    $instruction,
                    inout("rcx") count => _,
                    inout("rsi") from => _,
                    inout("rdi") to => _,
                    options(nostack, preserves_flags),
                )
            }
        };
    }
    match T::SIZE {
        1 => movs!("rep movsb"),
        2 => movs!("rep movsw"),
        4 => movs!("rep movsd"),
        _ => movs!("rep movsq"),
    }
}

/// # Safety
/// `count` elements are mapped writable there, and no Rust reference to them exists.
#[cfg(not(miri))]
unsafe fn repeat_stos<T: Word>(to: *mut u8, value: T, count: usize) {
    let value = value.widen() as u64;
    macro_rules! stos {
        ($instruction:literal) => {
            // SAFETY: as in `repeat_movs`.
            unsafe {
                std::arch::asm!(
                    $instruction,
                    inout("rcx") count => _,
                    in("rax") value,
                    inout("rdi") to => _,
                    options(nostack, preserves_flags),
                )
            }
        };
    }
    match T::SIZE {
        1 => stos!("rep stosb"),
        2 => stos!("rep stosw"),
        4 => stos!("rep stosd"),
        _ => stos!("rep stosq"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phys_map::tests::page_of;

    fn check<T: Word>(count: usize, value: T) {
        let (page, other) = (page_of(PageFlags::ALL), page_of(PageFlags::ALL));
        let offset = 4096 - count * T::SIZE;
        page.fill_run(offset, value, count);
        page.copy_run::<T>(offset, other, 3, count);
        let mut bytes = [0; 4096];
        other.copy_out(0, &mut bytes);
        let element = &value.widen().to_le_bytes()[..T::SIZE];
        assert!(bytes[..3].iter().all(|&byte| byte == 0));
        assert!(bytes[3..][..count * T::SIZE].chunks(T::SIZE).all(|found| found == element));
        assert!(bytes[3 + count * T::SIZE..].iter().all(|&byte| byte == 0));
    }

    #[test]
    fn runs_of_every_size_and_length_end_where_they_should() {
        for count in [1, 7, 8, 9, 15, 17, 63, 64, 65, 500] {
            check(count, 0x12_u8);
            check(count, 0x1234_u16);
            check(count, 0x1234_5678_u32);
            check(count, 0x1234_5678_9ABC_DEF0_u64);
        }
    }

    #[test]
    fn a_run_is_copied_to_where_it_begins_in_ascending_order() {
        let page = page_of(PageFlags::ALL);
        (0..64_usize).for_each(|at| page.store(at, at as u8));
        page.copy_run::<u8>(3, page, 0, 60);
        (0..60_usize).for_each(|at| assert_eq!(page.load::<u8>(at), at as u8 + 3));
    }

    #[test]
    #[should_panic(expected = "page")]
    fn a_run_beyond_the_page_is_refused() {
        page_of(PageFlags::ALL).fill_run(4089, 0_u64, 1);
    }
}
