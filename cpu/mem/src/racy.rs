//! The two plain accesses to memory that others write meanwhile.
//!
//! Rust's memory model calls a race of plain accesses undefined and has no atomic access of any
//! alignment. So, like the rust-vmm crates, this relies on what the compiler does with a volatile
//! access on x86: exactly one `mov` of the size (two for 16 bytes), which the processor makes
//! atomic where the operand lies inside a cache line. Under Miri, which would report the race, the
//! same bytes are accessed with atomics, so that it can check everything around. It wants
//! `MIRIFLAGS=-Zmiri-disable-weak-memory-emulation`, since its emulation knows no overlapping
//! atomics.
#![allow(unsafe_code)]

use crate::Word;

/// Alignment 1, so that a volatile access may start anywhere, as `mov` may.
#[cfg(not(miri))]
#[derive(Clone, Copy)]
#[repr(C, packed)]
struct Unaligned<T>(T);

/// Loads a value at any alignment.
///
/// # Safety
/// The bytes are mapped readable, and no Rust reference to them exists.
#[cfg(not(miri))]
#[inline(always)]
pub(crate) unsafe fn load<T: Word>(pointer: *const u8) -> T {
    // SAFETY: the caller's promise; every bit pattern is a `Word`.
    unsafe { pointer.cast::<Unaligned<T>>().read_volatile() }.0
}

/// Stores a value at any alignment.
///
/// # Safety
/// The bytes are mapped writable, and no Rust reference to them exists.
#[cfg(not(miri))]
#[inline(always)]
pub(crate) unsafe fn store<T: Word>(pointer: *mut u8, value: T) {
    // SAFETY: the caller's promise.
    unsafe { pointer.cast::<Unaligned<T>>().write_volatile(Unaligned(value)) }
}

/// Whether memory differs from `bytes`, of which there are whole groups of eight; each group is read
/// in one piece.
///
/// # Safety
/// As many bytes are mapped readable at `pointer`, and no Rust reference to them exists.
#[cfg(not(miri))]
pub(crate) unsafe fn differs(pointer: *const u8, bytes: &[u8]) -> bool {
    use std::arch::x86_64::{
        __m128i, _mm_cmpeq_epi8, _mm_loadu_si128, _mm_movemask_epi8, _mm_or_si128,
        _mm_setzero_si128, _mm_xor_si128,
    };
    let (pairs, rest) = bytes.as_chunks::<16>();
    // SAFETY: the caller's promise; every x86-64 processor has SSE2.
    unsafe {
        let mut differ = _mm_setzero_si128();
        for (number, pair) in pairs.iter().enumerate() {
            let now = pointer.add(16 * number).cast::<Unaligned<__m128i>>().read_volatile().0;
            let known = _mm_loadu_si128(pair.as_ptr().cast());
            differ = _mm_or_si128(differ, _mm_xor_si128(now, known));
        }
        let equal = _mm_cmpeq_epi8(differ, _mm_setzero_si128());
        let last = pointer.add(bytes.len() - rest.len());
        _mm_movemask_epi8(equal) != 0xFFFF
            || (rest.len() == 8 && load::<u64>(last).to_le_bytes() != *rest)
    }
}

#[cfg(miri)]
pub(crate) use with_atomics::{differs, load, store};

#[cfg(miri)]
mod with_atomics {
    use std::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::Relaxed};

    use super::Word;

    /// See the volatile twin.
    pub(crate) unsafe fn load<T: Word>(pointer: *const u8) -> T {
        let pointer = pointer.cast_mut();
        // SAFETY: the caller's promise; aligned by the comparison, or bytes.
        unsafe {
            T::truncate(match T::SIZE {
                2 if pointer.addr() % 2 == 0 => {
                    u128::from(AtomicU16::from_ptr(pointer.cast()).load(Relaxed))
                }
                4 if pointer.addr() % 4 == 0 => {
                    u128::from(AtomicU32::from_ptr(pointer.cast()).load(Relaxed))
                }
                8 if pointer.addr() % 8 == 0 => {
                    u128::from(AtomicU64::from_ptr(pointer.cast()).load(Relaxed))
                }
                size => (0..size).rev().fold(0, |wide, byte| {
                    wide << 8 | u128::from(AtomicU8::from_ptr(pointer.add(byte)).load(Relaxed))
                }),
            })
        }
    }

    /// See the volatile twin.
    pub(crate) unsafe fn differs(pointer: *const u8, bytes: &[u8]) -> bool {
        let mut groups = bytes.chunks(8).enumerate();
        // SAFETY: the caller's promise.
        groups
            .any(|(at, group)| unsafe { load::<u64>(pointer.add(8 * at)) }.to_le_bytes() != *group)
    }

    /// See the volatile twin.
    pub(crate) unsafe fn store<T: Word>(pointer: *mut u8, value: T) {
        let wide = value.widen();
        // SAFETY: the caller's promise; aligned by the comparison, or bytes.
        unsafe {
            match T::SIZE {
                2 if pointer.addr() % 2 == 0 => {
                    AtomicU16::from_ptr(pointer.cast()).store(wide as u16, Relaxed);
                }
                4 if pointer.addr() % 4 == 0 => {
                    AtomicU32::from_ptr(pointer.cast()).store(wide as u32, Relaxed);
                }
                8 if pointer.addr() % 8 == 0 => {
                    AtomicU64::from_ptr(pointer.cast()).store(wide as u64, Relaxed);
                }
                size => (0..size).for_each(|byte| {
                    let part = (wide >> (8 * byte)) as u8;
                    AtomicU8::from_ptr(pointer.add(byte)).store(part, Relaxed);
                }),
            }
        }
    }
}
