//! Registers of vectors and x87 between the processor and memory.
//!
//! `unsafe`: assembly, called from translated code and from around it.
#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::mem::offset_of;

use cpu_host::{FpuState, MXCSR};

use crate::frame::Frame;
use crate::registers::{Registers, YMM, grant};

/// Offset of MXCSR in [`FpuState`].
const GUEST_MXCSR: usize = offset_of!(FpuState, legacy) + MXCSR;
const _: () = assert!(align_of::<FpuState>() == 64, "registers are moved by aligned moves");

/// Stores the registers that are the guest's, if any, and gives Rust its own MXCSR and x87 state back. R11
/// points to the frame; RAX and RCX are overwritten, no other general register is.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn save_registers() {
    naked_asm!(
        "mov al, [r11 + {vectors}]",
        "test al, al",
        "mov rcx, [r11 + {fpu}]",
        "je 8f",
        "mov byte ptr [r11 + {vectors}], 0",
        "stmxcsr [rcx + {mxcsr}]",
        "ldmxcsr [r11 + {host_mxcsr}]",
        "cmp al, {ymm}",
        "je 2f",
        "ja 3f",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movaps [rcx + {zmm} + 64 * \\i], xmm\\i",
        ".endr",
        "8:",
        "cmp byte ptr [r11 + {x87}], 0",
        "je 9f",
        "mov byte ptr [r11 + {x87}], 0",
        // MXCSR and its mask are none of x87, but FXSAVE stores them, too.
        "mov rax, [rcx + {mxcsr}]",
        "fxsave64 [rcx + {legacy}]",
        "mov [rcx + {mxcsr}], rax",
        "fninit",
        "9:",
        "ret",
        "2:",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovaps [rcx + {zmm} + 64 * \\i], ymm\\i",
        ".endr",
        "vzeroupper",
        "jmp 8b",
        "3:",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovaps [rcx + {zmm} + 64 * \\i], zmm\\i",
        ".endr",
        ".irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovaps [rcx + {zmm} + 64 * \\i], zmm\\i",
        ".endr",
        ".irp i, 0,1,2,3,4,5,6,7",
        "kmovq [rcx + {opmask} + 8 * \\i], k\\i",
        ".endr",
        "vzeroupper",
        "jmp 8b",
        vectors = const offset_of!(Frame, vectors),
        fpu = const offset_of!(Frame, fpu),
        host_mxcsr = const offset_of!(Frame, host_mxcsr),
        x87 = const offset_of!(Frame, x87),
        legacy = const offset_of!(FpuState, legacy),
        mxcsr = const GUEST_MXCSR,
        zmm = const offset_of!(FpuState, zmm),
        opmask = const offset_of!(FpuState, opmask),
        ymm = const YMM,
    )
}

/// Loads the registers that are to be the guest's, if any. R11 points to the frame; RCX is
/// overwritten, no other general register is.
///
/// Upper parts that are zero are not written but cleared: some of Intel's processors execute every
/// instruction for XMM registers slowly while there is anything in the upper parts, or was loaded.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn load_registers() {
    naked_asm!(
        "mov rcx, [r11 + {fpu}]",
        "cmp byte ptr [r11 + {x87}], 0",
        "je 7f",
        // Overwrites MXCSR and vector registers.
        "fxrstor64 [rcx + {legacy}]",
        "ldmxcsr [r11 + {host_mxcsr}]",
        "7:",
        "cmp byte ptr [r11 + {vectors}], {ymm}",
        "je 2f",
        "ja 3f",
        "cmp byte ptr [r11 + {vectors}], 0",
        "je 9f",
        "ldmxcsr [rcx + {mxcsr}]",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "movaps xmm\\i, [rcx + {zmm} + 64 * \\i]",
        ".endr",
        "9:",
        "ret",
        "2:",
        "ldmxcsr [rcx + {mxcsr}]",
        "vmovaps xmm0, [rcx + {zmm} + 16]",
        ".irp i, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vorps xmm0, xmm0, [rcx + {zmm} + 64 * \\i + 16]",
        ".endr",
        "vptest xmm0, xmm0",
        "jne 5f",
        "4:",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovaps xmm\\i, [rcx + {zmm} + 64 * \\i]",
        ".endr",
        "ret",
        "5:",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovaps ymm\\i, [rcx + {zmm} + 64 * \\i]",
        ".endr",
        "ret",
        "3:",
        "ldmxcsr [rcx + {mxcsr}]",
        ".irp i, 16,17,18,19,20,21,22,23,24,25,26,27,28,29,30,31",
        "vmovaps zmm\\i, [rcx + {zmm} + 64 * \\i]",
        ".endr",
        ".irp i, 0,1,2,3,4,5,6,7",
        "kmovq k\\i, [rcx + {opmask} + 8 * \\i]",
        ".endr",
        "vmovaps xmm0, [rcx + {zmm} + 16]",
        "vmovaps ymm1, [rcx + {zmm} + 32]",
        ".irp i, 1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vorps xmm0, xmm0, [rcx + {zmm} + 64 * \\i + 16]",
        "vorps ymm1, ymm1, [rcx + {zmm} + 64 * \\i + 32]",
        ".endr",
        "vptest ymm1, ymm1",
        "jne 6f",
        "vzeroupper",
        "vptest xmm0, xmm0",
        "je 4b",
        "jmp 5b",
        "6:",
        ".irp i, 0,1,2,3,4,5,6,7,8,9,10,11,12,13,14,15",
        "vmovaps zmm\\i, [rcx + {zmm} + 64 * \\i]",
        ".endr",
        "ret",
        vectors = const offset_of!(Frame, vectors),
        fpu = const offset_of!(Frame, fpu),
        host_mxcsr = const offset_of!(Frame, host_mxcsr),
        x87 = const offset_of!(Frame, x87),
        legacy = const offset_of!(FpuState, legacy),
        mxcsr = const GUEST_MXCSR,
        zmm = const offset_of!(FpuState, zmm),
        opmask = const offset_of!(FpuState, opmask),
        ymm = const YMM,
    )
}

/// Called by translated code with what it wants in R10, see [`Registers::word`]: it is
/// loaded beside what was, or nothing is. R10 and R11 are overwritten, no other general register is.
#[unsafe(naked)]
pub(crate) unsafe extern "sysv64" fn registers_thunk() {
    naked_asm!(
        "push rax",
        "push rcx",
        "push rdx",
        "push rsi",
        "push rdi",
        "push r8",
        "push r9",
        "push r10",
        "lea r11, [rsp + 72]",
        "movzx eax, word ptr [r11 + {vectors}]",
        "push rax",
        "call {save}",
        "pop rdx",
        "lea rdi, [rsp + 72]",
        "mov rsi, [rsp]",
        "call {grant}",
        "lea r11, [rsp + 72]",
        "call {load}",
        "pop r10",
        "pop r9",
        "pop r8",
        "pop rdi",
        "pop rsi",
        "pop rdx",
        "pop rcx",
        "pop rax",
        "ret",
        save = sym save_registers,
        grant = sym decide,
        load = sym load_registers,
        vectors = const offset_of!(Frame, vectors),
    )
}

/// Called by [`registers_thunk`]: says what is to be loaded.
extern "sysv64" fn decide(frame: *mut Frame, wanted: u64, before: u64) {
    // SAFETY: the frame is on the stack below us and the thunk does not touch it meanwhile; context
    // and processor are those of `enter`, which does not use them meanwhile.
    unsafe {
        let frame = &mut *frame;
        let cpu = &*(*frame.context).cpu;
        let wanted = Registers::from_word(wanted).with(Registers::from_word(before));
        frame.set_loaded(grant(cpu, wanted).unwrap_or_default());
    }
}
