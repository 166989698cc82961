//! The shared page of the calling thread, as MicroV's shim has one for each physical processor.
//!
//! The page belongs to the thread, not to the language: a thread that Python served before has one
//! already, and it is used here too.

use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::cell::OnceCell;
use std::ptr::NonNull;
use std::sync::OnceLock;

use microv::abi::hypercall::{MV_HANDLE_OP_VAL, MV_PP_OP_VAL, MV_SPEC_ID1_VAL};
use microv::abi::index::{
    MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL, MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL,
    MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL, MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL,
};
use microv::abi::status::MV_STATUS_SUCCESS;
use microv::{Regs, hypercall};

const PAGE: usize = 4096;

thread_local! {
    static OWN_PAGE: OnceCell<OwnPage> = const { OnceCell::new() };
}

/// The calling thread's page, for the time of a call; only that thread touches it, between its
/// hypercalls.
pub struct RootPage(NonNull<u8>);

/// Calls `body` with the calling thread's page.
pub fn with_page<R>(body: impl FnOnce(&RootPage) -> R) -> R {
    OWN_PAGE.with(|own| {
        let (_, gpa) = call(MV_PP_OP_VAL, MV_PP_OP_GET_SHARED_PAGE_GPA_IDX_VAL, 0, 0);
        let given = NonNull::new(std::ptr::with_exposed_provenance_mut(gpa as usize));
        body(&RootPage(given.unwrap_or_else(|| own.get_or_init(OwnPage::set).0)))
    })
}

/// Makes one hypercall of a group that takes the handle. Returns the status and R10.
pub fn call(group: u64, index: u64, r11: u64, r12: u64) -> (u64, u64) {
    call3(group, index, r11, r12, 0)
}

/// As [`call`], for hypercalls that take R13.
pub fn call3(group: u64, index: u64, r11: u64, r12: u64, r13: u64) -> (u64, u64) {
    let mut regs = Regs { rax: group | index, r10: handle(), r11, r12, r13 };
    hypercall(&mut regs);
    (regs.rax, regs.r10)
}

fn handle() -> u64 {
    static HANDLE: OnceLock<u64> = OnceLock::new();
    *HANDLE.get_or_init(|| {
        let mut regs = Regs {
            rax: MV_HANDLE_OP_VAL | MV_HANDLE_OP_OPEN_HANDLE_IDX_VAL,
            r10: MV_SPEC_ID1_VAL,
            ..Regs::default()
        };
        hypercall(&mut regs);
        assert_eq!(regs.rax, MV_STATUS_SUCCESS, "the engine speaks another specification");
        regs.r10
    })
}

#[allow(unsafe_code, reason = "a page by address, as the hypercall ABI has it")]
impl RootPage {
    /// Puts `value` at `offset`.
    ///
    /// # Panics
    /// When it does not fit.
    pub fn put<T: zerocopy::IntoBytes + zerocopy::Immutable>(&self, offset: usize, value: &T) {
        assert!(offset + size_of::<T>() <= PAGE);
        let bytes = value.as_bytes();
        // SAFETY: inside the page by the assertion; only this thread touches the page now.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(offset), bytes.len());
        }
    }

    /// Copies bytes to `offset`.
    ///
    /// # Panics
    /// When they do not fit.
    pub fn put_bytes(&self, offset: usize, bytes: &[u8]) {
        assert!(offset + bytes.len() <= PAGE);
        // SAFETY: inside the page by the assertion; only this thread touches the page now.
        unsafe {
            std::ptr::copy_nonoverlapping(bytes.as_ptr(), self.0.as_ptr().add(offset), bytes.len());
        }
    }

    /// The value at `offset`.
    ///
    /// # Panics
    /// When it reaches over the page's end.
    pub fn get<T: zerocopy::FromBytes>(&self, offset: usize) -> T {
        assert!(offset + size_of::<T>() <= PAGE);
        // SAFETY: inside the page by the assertion, and any bytes are a value of `T`.
        unsafe { self.0.as_ptr().add(offset).cast::<T>().read_unaligned() }
    }
}

/// A page that this thread had to make, because nobody else had given it one.
struct OwnPage(NonNull<u8>);

const LAYOUT: Layout = match Layout::from_size_align(PAGE, PAGE) {
    Ok(layout) => layout,
    Err(_) => unreachable!(),
};

#[allow(unsafe_code, reason = "memory with the alignment of a page")]
impl OwnPage {
    fn set() -> Self {
        // SAFETY: the layout is not empty.
        let Some(at) = NonNull::new(unsafe { alloc_zeroed(LAYOUT) }) else {
            handle_alloc_error(LAYOUT)
        };
        let gpa = at.as_ptr().expose_provenance() as u64;
        let (status, _) = call(MV_PP_OP_VAL, MV_PP_OP_SET_SHARED_PAGE_GPA_IDX_VAL, gpa, 0);
        assert_eq!(status, MV_STATUS_SUCCESS, "this processor takes no shared page");
        Self(at)
    }
}

#[allow(unsafe_code, reason = "memory with the alignment of a page")]
impl Drop for OwnPage {
    fn drop(&mut self) {
        call(MV_PP_OP_VAL, MV_PP_OP_CLR_SHARED_PAGE_GPA_IDX_VAL, 0, 0);
        // SAFETY: allocated with the same layout, and the engine has let go of it.
        unsafe { dealloc(self.0.as_ptr(), LAYOUT) }
    }
}
