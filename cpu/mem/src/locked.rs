//! Locked read-modify-write of guest memory.
//!
//! Follows "Locked Atomic Operations" of the Intel SDM volume 3: an operand may have any
//! alignment. One inside a line of the host's cache ([`LINE`]) is a locked instruction of the host,
//! atomic against every other access. One that crosses lines is done under [`split_lock`]: atomic
//! against other split accesses of this process, not against aligned ones (see
//! `docs/deviations.md`). The host's own instruction would hold up all its processors, and hosts may
//! end a process for that (`split_lock_detect`).
#![allow(unsafe_code)]

use std::arch::asm;
use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::{HostPage, Word};

/// Proof that this thread holds the lock of split accesses.
pub struct SplitLock(#[expect(dead_code, reason = "held for its drop")] MutexGuard<'static, ()>);

/// Takes the lock of split accesses, as a processor asserts the bus lock.
///
/// For a locked access that crosses a page, which the caller does as two plain accesses. The bus
/// is that of the machine, not of one VM, since VMs may share memory. Not reentrant: no locked
/// operation of [`HostPage`] while it is held.
pub fn split_lock() -> SplitLock {
    static BUS: Mutex<()> = Mutex::new(());
    // The lock guards no data of ours, so a panic of another holder left nothing inconsistent.
    SplitLock(BUS.lock().unwrap_or_else(PoisonError::into_inner))
}

/// Bytes of a cache line: a locked access inside of one is the host's.
pub const LINE: usize = 64;

impl HostPage {
    /// Stores `new` if the memory holds `current`, in one locked step; `Ok` and `Err` carry what
    /// it held. On a mismatch nothing is stored. The page must have `WRITE`.
    ///
    /// # Panics
    /// When the value reaches beyond the page.
    #[inline]
    pub fn compare_exchange<T: Word>(self, offset: usize, current: T, new: T) -> Result<T, T> {
        if offset.is_multiple_of(T::SIZE) {
            let old = self.compare_exchange_aligned(offset, current.widen(), new.widen(), T::SIZE);
            let old = T::truncate(old);
            return if old == current { Ok(old) } else { Err(old) };
        }
        self.compare_exchange_misaligned(offset, current, new)
    }

    /// Replaces the value by `f` of it in one locked step; returns the old value. `f` runs again
    /// when another writer was faster. The page must have `WRITE`.
    ///
    /// # Panics
    /// When the value reaches beyond the page.
    #[inline]
    pub fn update<T: Word>(self, offset: usize, mut f: impl FnMut(T) -> T) -> T {
        let mut seen = self.load(offset);
        loop {
            match self.compare_exchange(offset, seen, f(seen)) {
                Ok(old) => return old,
                Err(newer) => seen = newer,
            }
        }
    }

    /// Returns what the aligned `size` bytes held; they now hold `new` if that was `current`.
    #[inline(always)]
    fn compare_exchange_aligned(
        self,
        offset: usize,
        current: u128,
        new: u128,
        size: usize,
    ) -> u128 {
        let pointer = self.at(offset, size);
        let order = Ordering::SeqCst;
        macro_rules! native {
            ($atomic:ty, $word:ty) => {{
                // SAFETY: `at` proved the bytes inside the page, which `map_page` promised stays
                // mapped; `offset` is a multiple of the size and pages are aligned.
                let cell = unsafe { <$atomic>::from_ptr(pointer.cast()) };
                let result = cell.compare_exchange(current as $word, new as $word, order, order);
                u128::from(result.unwrap_or_else(|seen| seen))
            }};
        }
        match size {
            1 => native!(AtomicU8, u8),
            2 => native!(AtomicU16, u16),
            4 => native!(AtomicU32, u32),
            8 => native!(AtomicU64, u64),
            _ if has_cmpxchg16b() => {
                // SAFETY: the instruction was detected; 16 aligned bytes inside a mapped page as
                // above.
                unsafe { cmpxchg16b(pointer.cast(), current, new) }
            }
            _ => {
                let _lock = split_lock();
                self.compare_exchange_plain(offset, current, new)
            }
        }
    }

    #[cold]
    fn compare_exchange_misaligned<T: Word>(
        self,
        offset: usize,
        current: T,
        new: T,
    ) -> Result<T, T> {
        let inside = offset % LINE + T::SIZE <= LINE;
        let old = if inside && T::SIZE <= size_of::<u64>() && !cfg!(miri) {
            let pointer = self.at(offset, T::SIZE);
            // SAFETY: `at` proved the bytes inside the page, which `map_page` promised stays mapped.
            T::truncate(unsafe { cmpxchg(pointer, current.widen(), new.widen(), T::SIZE) })
        } else {
            let _lock = split_lock();
            self.compare_exchange_plain(offset, current, new)
        };
        if old == current { Ok(old) } else { Err(old) }
    }

    /// The comparison and the store as two accesses; the caller holds the split lock.
    fn compare_exchange_plain<T: Word>(self, offset: usize, current: T, new: T) -> T {
        let old: T = self.load(offset);
        if old == current {
            self.store(offset, new);
        }
        old
    }
}

fn has_cmpxchg16b() -> bool {
    !cfg!(miri) && std::arch::is_x86_feature_detected!("cmpxchg16b")
}

/// Returns what `size` bytes held; they now hold `new` if that was `current`. Atomics of the standard
/// library are aligned.
///
/// # Safety
/// The bytes are writable.
unsafe fn cmpxchg(bytes: *mut u8, current: u128, new: u128, size: usize) -> u128 {
    macro_rules! native {
        ($word:ty, $operand:literal) => {{
            let mut seen = current as $word;
            // SAFETY: the caller's promise.
            unsafe {
                asm!(
                    concat!("lock cmpxchg ", $operand),
                    at = in(reg) bytes,
                    new = in(reg) new as $word,
                    inout("rax") seen,
                    options(nostack),
                );
            }
            u128::from(seen)
        }};
    }
    match size {
        2 => native!(u16, "word ptr [{at}], {new:x}"),
        4 => native!(u32, "dword ptr [{at}], {new:e}"),
        _ => native!(u64, "qword ptr [{at}], {new:r}"),
    }
}

/// Returns what the block held; it now holds `new` if that was `current`.
///
/// The intrinsic of the standard library becomes a call to a missing function in builds without
/// optimisation, hence assembly.
///
/// # Safety
/// The processor has CMPXCHG16B; `block` is aligned to 16 and writable.
#[inline]
unsafe fn cmpxchg16b(block: *mut u128, current: u128, new: u128) -> u128 {
    let (mut low, mut high) = (current as u64, (current >> 64) as u64);
    // SAFETY: the caller's promise; RBX, which the compiler keeps for itself, is restored.
    unsafe {
        asm!(
            "xchg rbx, rsi",
            "lock cmpxchg16b [rdi]",
            "mov rbx, rsi",
            in("rdi") block,
            inout("rsi") new as u64 => _,
            in("rcx") (new >> 64) as u64,
            inout("rax") low,
            inout("rdx") high,
            options(nostack),
        );
    }
    u128::from(high) << 64 | u128::from(low)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::phys_map::tests::page_of;
    use crate::{PAGE_SIZE, PageFlags};

    /// Offsets of each case: aligned, inside a line, across lines.
    const OFFSETS: [usize; 9] = [0, 1, 3, 11, 13, 15, 59, 61, 63];

    fn exchanges<T: Word + std::fmt::Debug>() {
        let page = page_of(PageFlags::ALL);
        let (old, new) = (T::truncate(u128::MAX / 5), T::truncate(u128::MAX / 7));
        for offset in OFFSETS {
            page.copy_in(0, &[0x11; 128]);
            page.store(offset, old);
            assert_eq!(page.compare_exchange(offset, new, old), Err(old));
            assert_eq!(page.load::<T>(offset), old);
            assert_eq!(page.compare_exchange(offset, old, new), Ok(old));
            assert_eq!(page.load::<T>(offset), new);
            for outside in (0..offset).chain(offset + T::SIZE..128) {
                assert_eq!(page.load::<u8>(outside), 0x11, "byte {outside}, operand at {offset}");
            }
        }
    }

    #[test]
    fn compare_exchange_stores_only_on_a_match_and_touches_no_neighbour() {
        exchanges::<u8>();
        exchanges::<u16>();
        exchanges::<u32>();
        exchanges::<u64>();
        exchanges::<u128>();
    }

    #[test]
    fn compare_exchange_reaches_the_last_bytes_of_the_page() {
        let page = page_of(PageFlags::ALL);
        assert_eq!(page.compare_exchange(PAGE_SIZE - 3, 0_u16, 7), Ok(0));
        assert_eq!(page.load::<u16>(PAGE_SIZE - 3), 7);
    }

    #[test]
    #[should_panic(expected = "leaves the page")]
    fn a_locked_access_beyond_the_page_panics() {
        let _ = page_of(PageFlags::ALL).compare_exchange(PAGE_SIZE - 1, 0_u16, 1);
    }

    /// Two threads add one each turn; no turn may be lost.
    fn counts<T: Word + std::fmt::Debug>(offset: usize) {
        const TURNS: u128 = if cfg!(miri) { 50 } else { 20_000 };
        let page = page_of(PageFlags::ALL);
        std::thread::scope(|scope| {
            for _ in 0..2 {
                scope.spawn(|| {
                    for _ in 0..TURNS {
                        page.update(offset, |old: T| T::truncate(old.widen().wrapping_add(1)));
                    }
                });
            }
        });
        assert_eq!(page.load::<T>(offset), T::truncate(2 * TURNS));
    }

    #[test]
    fn concurrent_updates_of_an_aligned_operand_are_not_lost() {
        counts::<u16>(0);
        counts::<u32>(4);
        counts::<u64>(8);
        counts::<u128>(16);
    }

    #[test]
    fn concurrent_updates_of_a_misaligned_operand_are_not_lost() {
        counts::<u32>(5);
        counts::<u32>(14);
        counts::<u64>(3);
    }

    #[test]
    fn concurrent_updates_across_lines_are_not_lost() {
        counts::<u32>(62);
        counts::<u128>(56);
    }

    #[test]
    fn a_misaligned_update_does_not_undo_a_store_to_its_neighbour() {
        const TURNS: u32 = if cfg!(miri) { 20 } else { 100_000 };
        let page = page_of(PageFlags::ALL);
        std::thread::scope(|scope| {
            let neighbour = scope.spawn(|| {
                for turn in 0..TURNS {
                    page.store(9, turn as u8);
                    assert_eq!(page.load::<u8>(9), turn as u8);
                }
            });
            while !neighbour.is_finished() {
                page.update(5, |old: u32| old.wrapping_add(1));
            }
        });
    }
}
