//! The memory that a vCPU's file maps: `kvm_run`, the page of port data, the coalesced ring.
//!
//! `Documentation/virt/kvm/api.rst`, section 5, "The kvm_run structure". The client writes it at
//! any time, so every field is read at most once per entry and written whole; no reference into it
//! exists.

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};
use std::ptr::NonNull;

use kvm_bindings::{kvm_run, kvm_run__bindgen_ty_1};

use crate::regs::Values;

const PAGE: usize = 4096;

/// Bytes of the mapping: what KVM_GET_VCPU_MMAP_SIZE reports.
pub const BYTES: usize = 3 * PAGE;

/// Where port data is: the second page.
pub const PIO_OFFSET: usize = PAGE;

/// The mapping of one vCPU's area in this process.
pub struct RunArea {
    at: NonNull<u8>,
}

// SAFETY: the area is plain shared memory, reached only by volatile accesses; any thread may.
#[allow(unsafe_code, reason = "shared memory with another process")]
unsafe impl Send for RunArea {}
// SAFETY: as above; concurrent accesses race as the ABI allows them to.
#[allow(unsafe_code, reason = "shared memory with another process")]
unsafe impl Sync for RunArea {}

/// What the client asks for when it calls KVM_RUN.
pub struct Wishes {
    /// Leave with `KVM_EXIT_IRQ_WINDOW_OPEN` when the guest can take an interrupt.
    pub request_interrupt_window: bool,
    /// Finish what is pending and leave with EINTR.
    pub immediate_exit: bool,
    /// The task priority, as there is no local APIC in the engine.
    pub cr8: u64,
}

/// What a client may read after any exit.
pub struct Common {
    /// IF is set.
    pub if_flag: bool,
    /// KVM_INTERRUPT would be taken now.
    pub ready_for_interrupt_injection: bool,
    /// The task priority.
    pub cr8: u64,
    /// IA32_APIC_BASE.
    pub apic_base: u64,
    /// KVM_RUN_X86_*
    pub flags: u16,
}

/// KVM_SYNC_X86_*: the registers in `kvm_run` that count.
#[derive(Clone, Copy)]
pub struct SyncFields {
    /// Those the client wants to see after the run.
    pub valid: u64,
    /// Those it has changed.
    pub dirty: u64,
}

macro_rules! at {
    ($area:expr, $($field:tt)+) => {
        // SAFETY: `at` points to BYTES mapped bytes until drop, page aligned, so every field of
        // `kvm_run` is inside and aligned.
        unsafe { &raw mut (*$area.at.as_ptr().cast::<kvm_run>()).$($field)+ }
    };
}

#[allow(unsafe_code, reason = "shared memory with another process")]
impl RunArea {
    /// Maps the first [`BYTES`] of a memfd.
    ///
    /// # Errors
    /// Those of `mmap`.
    pub fn map(memfd: BorrowedFd<'_>) -> io::Result<Self> {
        // SAFETY: a fresh mapping at an address of the kernel's choice.
        let at = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                BYTES,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                memfd.as_raw_fd(),
                0,
            )
        };
        if at == libc::MAP_FAILED {
            return Err(io::Error::last_os_error());
        }
        NonNull::new(at.cast()).map(|at| Self { at }).ok_or_else(io::Error::last_os_error)
    }

    /// Reads the client's wishes, each field once.
    pub fn wishes(&self) -> Wishes {
        let window = at!(self, request_interrupt_window);
        let immediate = at!(self, immediate_exit);
        let cr8 = at!(self, cr8);
        // SAFETY: see `at!`; any bytes are values of these fields.
        unsafe {
            Wishes {
                request_interrupt_window: window.read_volatile() != 0,
                immediate_exit: immediate.read_volatile() != 0,
                cr8: cr8.read_volatile(),
            }
        }
    }

    /// Reads which registers travel with the run.
    pub fn sync_fields(&self) -> SyncFields {
        let valid = at!(self, kvm_valid_regs);
        let dirty = at!(self, kvm_dirty_regs);
        // SAFETY: see `at!`; any bytes are values of these fields.
        unsafe { SyncFields { valid: valid.read_volatile(), dirty: dirty.read_volatile() } }
    }

    /// Writes which registers the client has changed and the vCPU has not taken.
    pub fn set_dirty(&self, fields: u64) {
        let dirty = at!(self, kvm_dirty_regs);
        // SAFETY: see `at!`.
        unsafe { dirty.write_volatile(fields) }
    }

    /// Reads the general registers of `struct kvm_sync_regs`.
    pub fn regs(&self) -> Values {
        let field = at!(self, s.regs.regs).cast::<Values>();
        // SAFETY: see `at!`; any bytes are values of these fields.
        unsafe { field.read_volatile() }
    }

    /// Writes the general registers of `struct kvm_sync_regs`.
    pub fn set_regs(&self, values: &Values) {
        let field = at!(self, s.regs.regs).cast::<Values>();
        // SAFETY: see `at!`.
        unsafe { field.write_volatile(*values) }
    }

    /// Where `struct kvm_sync_regs` is.
    pub fn sync_regs(&self) -> *mut u8 {
        at!(self, s).cast()
    }

    /// Writes the fields that are valid after any exit.
    pub fn set_common(&self, common: &Common) {
        let if_flag = at!(self, if_flag);
        let ready = at!(self, ready_for_interrupt_injection);
        let flags = at!(self, flags);
        let cr8 = at!(self, cr8);
        let apic_base = at!(self, apic_base);
        // SAFETY: see `at!`.
        unsafe {
            if_flag.write_volatile(common.if_flag.into());
            ready.write_volatile(common.ready_for_interrupt_injection.into());
            flags.write_volatile(common.flags);
            cr8.write_volatile(common.cr8);
            apic_base.write_volatile(common.apic_base);
        }
    }

    /// Writes the exit reason alone.
    pub fn set_exit_reason(&self, reason: u32) {
        let field = at!(self, exit_reason);
        // SAFETY: see `at!`.
        unsafe { field.write_volatile(reason) }
    }

    /// Writes the exit reason and its details.
    pub fn set_exit(&self, reason: u32, details: kvm_run__bindgen_ty_1) {
        let field = at!(self, __bindgen_anon_1);
        // SAFETY: see `at!`.
        unsafe { field.write_volatile(details) }
        self.set_exit_reason(reason);
    }

    /// The eight data bytes of an MMIO exit, as the client left them.
    pub fn mmio_data(&self) -> [u8; 8] {
        let field = at!(self, __bindgen_anon_1.mmio.data);
        // SAFETY: see `at!`.
        unsafe { field.read_volatile() }
    }

    /// What the client answers to an MSR exit: the value of a read, and whether #GP is raised.
    pub fn msr_answer(&self) -> (u64, bool) {
        let data = at!(self, __bindgen_anon_1.msr.data);
        let error = at!(self, __bindgen_anon_1.msr.error);
        // SAFETY: see `at!`.
        unsafe { (data.read_volatile(), error.read_volatile() != 0) }
    }

    /// What the client answers to a hypercall.
    pub fn hypercall_answer(&self) -> u64 {
        let answer = at!(self, __bindgen_anon_1.hypercall.ret);
        // SAFETY: see `at!`.
        unsafe { answer.read_volatile() }
    }

    /// What the client answers to a hypercall of Hyper-V's.
    pub fn hyperv_answer(&self) -> u64 {
        let answer = at!(self, __bindgen_anon_1.hyperv.u.hcall.result);
        // SAFETY: see `at!`.
        unsafe { answer.read_volatile() }
    }

    /// What the client says became of a request of the debugger's.
    pub fn debug_status(&self) -> u64 {
        let status = at!(self, __bindgen_anon_1.hyperv.u.syndbg.status);
        // SAFETY: see `at!`.
        unsafe { status.read_volatile() }
    }

    /// Copies the first bytes of the page of port data.
    ///
    /// # Panics
    /// When `data` is longer than a page.
    pub fn read_pio(&self, data: &mut [u8]) {
        assert!(data.len() <= PAGE);
        for (index, byte) in data.iter_mut().enumerate() {
            // SAFETY: inside the second page of the mapping, by the assertion.
            *byte = unsafe { self.at.as_ptr().add(PIO_OFFSET + index).read_volatile() };
        }
    }

    /// Fills the page of port data: `data`, then zeros up to a word that a client may print.
    ///
    /// # Panics
    /// When `data` is longer than a page.
    pub fn write_pio(&self, data: &[u8]) {
        assert!(data.len() <= PAGE);
        let padded = data.iter().copied().chain(std::iter::repeat(0));
        for (index, byte) in padded.take(data.len().max(size_of::<u64>())).enumerate() {
            // SAFETY: inside the second page of the mapping, by the assertion.
            unsafe { self.at.as_ptr().add(PIO_OFFSET + index).write_volatile(byte) }
        }
    }
}

#[allow(unsafe_code, reason = "shared memory with another process")]
impl Drop for RunArea {
    fn drop(&mut self) {
        // SAFETY: the mapping is this value's own, and no access outlives the value.
        unsafe {
            libc::munmap(self.at.as_ptr().cast(), BYTES);
        }
    }
}
