//! Instructions that 64-bit mode lacks, run in the 32-bit code segment that Linux gives to every
//! process.
//!
//! A page below 4 GiB holds three pieces of code: one that leaves 64-bit mode by a far return, the
//! 32-bit piece with the instruction, and one that comes back by a far jump.

use std::arch::asm;
use std::ptr;

use cpu_alu::flags::STATUS;

/// `__USER32_CS` and `__USER_CS` of Linux.
const CS_32: u8 = 0x23;
const CS_64: u8 = 0x33;

/// Offsets in the page.
const CODE_32: u32 = 0x100;
const BACK_64: u32 = 0x200;
const SAVED_RSP: u32 = 0x300;
const STACK_TOP: u32 = 0x1000;

/// One instruction on EAX, in a page of its own.
pub struct Routine {
    page: u32,
}

impl Routine {
    /// From the machine code of the instruction.
    pub fn new(instruction: &[u8]) -> Self {
        // SAFETY: new memory, nothing is replaced.
        let mapping = unsafe {
            let protection = libc::PROT_READ | libc::PROT_WRITE | libc::PROT_EXEC;
            let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT;
            libc::mmap(ptr::null_mut(), STACK_TOP as usize, protection, flags, -1, 0)
        };
        assert_ne!(mapping, libc::MAP_FAILED, "no page below 4 GiB");
        let page = u32::try_from(mapping as usize).expect("MAP_32BIT");
        let routine = Self { page };
        routine.write(0, &routine.leave_64());
        routine.write(CODE_32, &routine.code_32(instruction));
        routine.write(BACK_64, &routine.back_64());
        routine
    }

    /// Runs the instruction: (eax, flags) -> (eax, flags).
    pub fn run(&self, mut eax: u32, flags: u32) -> (u32, u32) {
        let mut eflags = flags | 0x202;
        // SAFETY: the code in the page changes EAX, EDX, flags and its own page, and returns with
        // the stack as it was. R8 to R15 are declared lost, as compatibility mode may lose them.
        unsafe {
            asm!(
                "push rbp",
                "push rbx",
                "call rcx",
                "pop rbx",
                "pop rbp",
                in("rcx") u64::from(self.page),
                inout("eax") eax,
                inout("edx") eflags,
                out("r8") _, out("r9") _, out("r10") _, out("r11") _,
                out("r12") _, out("r13") _, out("r14") _, out("r15") _,
            );
        }
        (eax, eflags & STATUS)
    }

    fn leave_64(&self) -> Vec<u8> {
        let mut code = vec![0x48, 0x89, 0x24, 0x25]; // mov [saved_rsp], rsp
        code.extend((self.page + SAVED_RSP).to_le_bytes());
        code.push(0xbc); // mov esp, stack_top
        code.extend((self.page + STACK_TOP).to_le_bytes());
        code.extend([0x6a, CS_32, 0x68]); // push cs_32; push code_32
        code.extend((self.page + CODE_32).to_le_bytes());
        code.extend([0x48, 0xcb]); // retfq
        code
    }

    fn code_32(&self, instruction: &[u8]) -> Vec<u8> {
        let mut code = vec![0x52, 0x9d]; // push edx; popfd
        code.extend(instruction);
        code.extend([0x9c, 0x5a, 0xea]); // pushfd; pop edx; jmp far cs_64:back_64
        code.extend((self.page + BACK_64).to_le_bytes());
        code.extend([CS_64, 0]);
        code
    }

    fn back_64(&self) -> Vec<u8> {
        let mut code = vec![0x48, 0x8b, 0x24, 0x25]; // mov rsp, [saved_rsp]
        code.extend((self.page + SAVED_RSP).to_le_bytes());
        code.push(0xc3); // ret
        code
    }

    fn write(&self, offset: u32, code: &[u8]) {
        let to = (self.page + offset) as usize as *mut u8;
        // SAFETY: inside the page, which only this routine uses.
        unsafe { ptr::copy_nonoverlapping(code.as_ptr(), to, code.len()) }
    }
}

impl Drop for Routine {
    fn drop(&mut self) {
        // SAFETY: the page belongs to this routine.
        unsafe { libc::munmap(self.page as usize as *mut libc::c_void, STACK_TOP as usize) };
    }
}
