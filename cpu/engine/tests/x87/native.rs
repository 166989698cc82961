//! One x87 instruction on the host, between FXRSTOR64 and FXSAVE64.

use std::arch::asm;
use std::ptr;

/// Code page: [`PROLOGUE`], the instruction, the rest.
const PAGE_LEN: usize = 4096;
/// `fxrstor64 [rsi]; push r8; popfq`
const PROLOGUE: [u8; 7] = [0x48, 0x0F, 0xAE, 0x0E, 0x41, 0x50, 0x9D];
/// `pushfq; pop r8; fxsave64 [rdx]; fnstenv [rcx]; fninit; ret`
const EPILOGUE: [u8; 12] = [0x9C, 0x41, 0x58, 0x48, 0x0F, 0xAE, 0x02, 0xD9, 0x31, 0xDB, 0xE3, 0xC3];

/// An FXSAVE area.
#[derive(Clone, PartialEq, Eq)]
#[repr(C, align(16))]
pub struct Area(pub [u8; 512]);

/// What an instruction works on and leaves.
#[derive(Clone, PartialEq, Eq)]
pub struct State {
    pub area: Area,
    pub environment: [u8; 28],
    pub memory: [u8; 128],
    pub rax: u64,
    pub flags: u64,
}

/// A page of the host's for one instruction at a time.
pub struct Host {
    page: *mut u8,
}

impl Host {
    #[allow(unsafe_code)]
    pub fn new() -> Self {
        // SAFETY: new memory, nothing is replaced.
        let page = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
            libc::mmap(ptr::null_mut(), PAGE_LEN, protection, flags, -1, 0)
        };
        assert_ne!(page, libc::MAP_FAILED);
        Host { page: page.cast() }
    }

    /// Address of the instruction.
    pub fn instruction(&self) -> u64 {
        self.page.addr() as u64 + PROLOGUE.len() as u64
    }

    /// Puts an instruction in. It may use RDI as a pointer to 128 bytes, and RAX.
    #[allow(unsafe_code)]
    pub fn load(&mut self, instruction: &[u8]) {
        let code = [&PROLOGUE, instruction, &EPILOGUE].concat();
        assert!(code.len() <= PAGE_LEN);
        // SAFETY: inside of the page, which nobody executes now; x86 notices changed code at the
        // next call.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), self.page, code.len()) };
    }

    /// Executes it; the address of the memory operand is returned.
    #[allow(unsafe_code)]
    pub fn run(&self, state: &mut State) -> u64 {
        let from = state.area.clone();
        let memory = ptr::from_mut(&mut state.memory);
        // SAFETY: the code changes RAX, flags, x87 and vector registers and the three buffers. It
        // leaves x87 initialized, as the ABI wants it; MXCSR in the area is the default.
        unsafe {
            asm!(
                "call {entry}",
                entry = in(reg) self.page,
                inlateout("rdi") memory => _,
                inlateout("rsi") &raw const from => _,
                inlateout("rdx") &raw mut state.area => _,
                inlateout("rcx") &raw mut state.environment => _,
                inlateout("r8") state.flags | 0x202 => state.flags,
                inlateout("rax") state.rax,
                clobber_abi("sysv64"),
            );
        }
        memory.addr() as u64
    }
}

impl Drop for Host {
    #[allow(unsafe_code)]
    fn drop(&mut self) {
        // SAFETY: the page is ours and no longer used.
        unsafe { libc::munmap(self.page.cast(), PAGE_LEN) };
    }
}
