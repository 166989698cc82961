//! Into translated code and out of it.
//!
//! `unsafe`: assembly, and pointers that pass through it.
#![allow(unsafe_code)]

use std::arch::naked_asm;
use std::mem::offset_of;
use std::ptr;
use std::sync::atomic::AtomicU32;

use cpu_host::MXCSR_INIT;
use cpu_interp::Cpu;
use cpu_interp::int::{RIP, SLOTS};

use crate::callout::{Context, Next, Site, SiteAddress};
use crate::frame::{FRAME_LEN, Frame, KEPT_LEN, SPILLED};
use crate::pages::STALE;
use crate::register_state::{load_registers, registers_thunk, save_registers};
use crate::stack::stack_page_thunk;

const _: () = assert!(FRAME_LEN.is_multiple_of(8), "`enter` copies words");
const _: () = assert!((KEPT_LEN + PAD) % 16 == 8, "the stack is aligned");
const _: () = assert!(SLOTS > RIP as usize);

// SAFETY: its pointer is used only while translated code runs, on the thread that runs it.
unsafe impl Send for Context {}

/// Bytes between what is kept above the frame and what was pushed before: the stack is aligned in
/// calls from translated code.
const PAD: usize = (KEPT_LEN + 8) % 16;

/// Executes translated code until it leaves; returns the branch through which it has left, if it can
/// be linked, or 0. The processor's RIP is not that of where a link leads, which the caller knows.
///
/// `code` is the entry of a block for flags in the frame, made by the translator whose context this
/// is, and in an arena that lives as long as the call.
pub(crate) fn enter(context: &mut Context, cpu: &mut Cpu, kick: &AtomicU32, code: u64) -> u64 {
    let context = ptr::from_mut(context);
    let cpu = ptr::from_mut(cpu);
    // SAFETY: both come from exclusive references that are not used while translated code runs.
    let mut frame = unsafe { frame_of(context, cpu, kick) };
    // SAFETY: `code` is an entry of translated code, which keeps the conventions of `crate::frame`:
    // it changes the registers in the slots, memory behind the TLB's pages, and the frame. What it
    // hands to `callout` are the frame and a site.
    unsafe {
        enter_code(&raw mut frame, code);
        frame.give_flags(&mut *cpu);
        (*context).executed.set(frame.count);
        (*context).noted.give(&mut *cpu);
    }
    frame.link
}

/// # Safety
/// The pointers are valid, and nothing else uses what they point to while the frame is in use.
unsafe fn frame_of(context: *mut Context, cpu: *mut Cpu, kick: &AtomicU32) -> Frame {
    // SAFETY: as the caller promises.
    unsafe {
        let mut frame = Frame {
            flags: 0,
            down: 0,
            carry: 0,
            count: (*context).executed.get(),
            spilled: SPILLED.map(|number| (*cpu).arch.slots[usize::from(number)]),
            fs_base: 0,
            gs_base: 0,
            tlb: ptr::null(),
            jumps: ptr::null(),
            kick,
            callout: callout_thunk as *const () as usize,
            leave: leave_thunk as *const () as usize,
            leave_linked: leave_linked_thunk as *const () as usize,
            leave_saving: leave_saving_thunk as *const () as usize,
            leave_stale: leave_stale_thunk as *const () as usize,
            slots: (&raw mut (*cpu).arch.slots).cast(),
            scratch: 0,
            link: 0,
            context,
            epoch: 0,
            tsc_offset: 0,
            vectors: 0,
            x87: 0,
            grants: 0,
            load_registers: registers_thunk as *const () as usize,
            find_stack_page: stack_page_thunk as *const () as usize,
            fpu: &raw mut (*cpu).fpu,
            host_mxcsr: MXCSR_INIT.into(),
        };
        (*context).cpu = cpu;
        let jumps = (*context).jumps(&*cpu).entries();
        frame.refresh(&*cpu, jumps);
        frame
    }
}

/// The site at an address; none at 0.
pub(crate) fn site<'a>(address: SiteAddress) -> Option<&'a Site> {
    // SAFETY: translated code has noted it since it was entered, and sites live until the translator is
    // cleared, which it is not before whoever entered has asked.
    unsafe { ptr::with_exposed_provenance::<Site>(address as usize).as_ref() }
}

/// The word that says whether others want something.
pub(crate) fn kick_word(frame: &Frame) -> Option<&AtomicU32> {
    // SAFETY: `enter` got it as a reference that lives as long as the frame.
    unsafe { frame.kick.as_ref() }
}

/// Called by [`callout_thunk`]. 0: behind the instruction; 1: leave; 2: at [`Frame::scratch`].
extern "sysv64" fn callout(frame: *mut Frame, site: *const Site) -> u64 {
    // SAFETY: the frame is on the stack below us and the thunk does not touch it meanwhile; sites
    // live until the translator is cleared, which it is not while its code runs; the context and
    // the processor are those of `enter`, which does not use them meanwhile.
    let next = unsafe {
        let (frame, site) = (&mut *frame, &*site);
        let context = &mut *frame.context;
        let cpu = &mut *context.cpu;
        context.noted.give(cpu);
        let next = context.execute(cpu, frame, site);
        if let Next::Jump(host) = next {
            frame.scratch = host;
        }
        if next == Next::Leave {
            frame.take_flags(cpu);
        }
        next
    };
    match next {
        Next::Continue => 0,
        Next::Leave => 1,
        Next::Jump(_) => 2,
    }
}

/// Makes this processor forget instructions that it may have fetched before they were written:
/// IRET serializes.
pub(crate) fn serialize() {
    // SAFETY: it returns to its caller with all registers but RAX and RCX unchanged.
    unsafe { serialize_thunk() }
}

/// Guest registers that are in the host's, to the slots at R11.
macro_rules! store_registers {
    () => {
        concat!(
            "mov [r11], rax\n",
            "mov [r11 + 8], rcx\n",
            "mov [r11 + 16], rdx\n",
            "mov [r11 + 24], rbx\n",
            "mov [r11 + 32], r9\n",
            "mov [r11 + 40], rbp\n",
            "mov [r11 + 48], rsi\n",
            "mov [r11 + 56], rdi\n",
            "mov [r11 + 64], r8\n",
            "mov [r11 + 96], r12\n",
            "mov [r11 + 104], r13\n",
        )
    };
}

/// The other way.
macro_rules! load_registers {
    () => {
        concat!(
            "mov rax, [r11]\n",
            "mov rcx, [r11 + 8]\n",
            "mov rdx, [r11 + 16]\n",
            "mov rbx, [r11 + 24]\n",
            "mov r9, [r11 + 32]\n",
            "mov rbp, [r11 + 40]\n",
            "mov rsi, [r11 + 48]\n",
            "mov rdi, [r11 + 56]\n",
            "mov r8, [r11 + 64]\n",
            "mov r12, [r11 + 96]\n",
            "mov r13, [r11 + 104]\n",
        )
    };
}

/// Back to the caller of [`enter_code`], from a stack whose top is the frame.
macro_rules! go_back {
    () => {
        concat!(
            "mov ax, [rsp + {flags}]\n",
            "mov rcx, [rsp + {link}]\n",
            "mov rdx, [rsp + {count}]\n",
            "add rsp, {below}\n",
            "pop rdi\n",
            "mov [rdi + {flags}], ax\n",
            "mov [rdi + {link}], rcx\n",
            "mov [rdi + {count}], rdx\n",
            "pop r15\n",
            "pop r14\n",
            "pop r13\n",
            "pop r12\n",
            "pop rbx\n",
            "pop rbp\n",
            "ret\n",
        )
    };
}

#[unsafe(naked)]
unsafe extern "sysv64" fn serialize_thunk() {
    naked_asm!(
        "mov rax, rsp",
        "mov ecx, ss",
        "push rcx",
        "push rax",
        "pushfq",
        "mov ecx, cs",
        "push rcx",
        "lea rcx, [rip + 2f]",
        "push rcx",
        "iretq",
        "2:",
        "ret",
    )
}

/// Copies the frame to the stack, loads the guest's registers and jumps to the code.
#[unsafe(naked)]
unsafe extern "sysv64" fn enter_code(frame: *mut Frame, code: u64) {
    naked_asm!(
        "push rbp",
        "push rbx",
        "push r12",
        "push r13",
        "push r14",
        "push r15",
        "push rdi",
        "sub rsp, {below}",
        // Not in longer pieces: Rust has just stored them so, and the host would wait for that.
        ".set at, 0",
        ".rept {words}",
        "mov rax, [rdi + at]",
        "mov [rsp + at], rax",
        ".set at, at + 8",
        ".endr",
        "mov r15, [rdi + {tlb}]",
        "mov r14, [rdi + {count}]",
        "mov r11, [rdi + {slots}]",
        "mov r10, rsi",
        load_registers!(),
        "jmp r10",
        words = const FRAME_LEN / 8,
        below = const KEPT_LEN + PAD,
        count = const offset_of!(Frame, count),
        tlb = const offset_of!(Frame, tlb),
        slots = const offset_of!(Frame, slots),
    )
}

/// Jumped to by translated code that leaves with RIP in R10.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave_thunk() {
    naked_asm!(
        "mov r11, [rsp + {slots}]",
        store_registers!(),
        "mov [r11 + {rip}], r10",
        "mov rax, [rsp + {spilled}]",
        "mov [r11 + 72], rax",
        "mov rax, [rsp + {spilled} + 8]",
        "mov [r11 + 80], rax",
        "mov rax, [rsp + {spilled} + 16]",
        "mov [r11 + 88], rax",
        "mov rax, [rsp + {spilled} + 24]",
        "mov [r11 + 112], rax",
        "mov rax, [rsp + {spilled} + 32]",
        "mov [r11 + 120], rax",
        "mov [rsp + {count}], r14",
        "mov r11, rsp",
        "call {save_registers}",
        go_back!(),
        below = const KEPT_LEN + PAD,
        slots = const offset_of!(Frame, slots),
        spilled = const offset_of!(Frame, spilled),
        flags = const offset_of!(Frame, flags),
        link = const offset_of!(Frame, link),
        count = const offset_of!(Frame, count),
        rip = const 8 * RIP as usize,
        save_registers = sym save_registers,
    )
}

/// Jumped to by translated code that leaves through the link of the number in R10D; who has entered
/// knows where it leads.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave_linked_thunk() {
    naked_asm!(
        "mov [rsp + {link}], r10",
        "jmp {leave}",
        link = const offset_of!(Frame, link),
        leave = sym leave_thunk,
    )
}

/// As [`leave_linked_thunk`], with the flags in RFLAGS.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave_saving_thunk() {
    naked_asm!(
        "mov r11, rax",
        "lahf",
        "seto al",
        "mov [rsp + {flags}], ax",
        "mov rax, r11",
        "jmp {leave}",
        flags = const offset_of!(Frame, flags),
        leave = sym leave_linked_thunk,
    )
}

/// Jumped to by translated code that leaves with [`STALE`] and RIP in R10.
#[unsafe(naked)]
unsafe extern "sysv64" fn leave_stale_thunk() {
    naked_asm!(
        "mov r11d, {stale}",
        "mov [rsp + {link}], r11",
        "jmp {leave}",
        stale = const STALE,
        link = const offset_of!(Frame, link),
        leave = sym leave_thunk,
    )
}

/// Called by translated code with a [`Site`] in R10 and the flags in the frame.
#[unsafe(naked)]
unsafe extern "sysv64" fn callout_thunk() {
    naked_asm!(
        "mov r11, [rsp + 8 + {slots}]",
        store_registers!(),
        "mov rax, [rsp + 8 + {spilled}]",
        "mov [r11 + 72], rax",
        "mov rax, [rsp + 8 + {spilled} + 8]",
        "mov [r11 + 80], rax",
        "mov rax, [rsp + 8 + {spilled} + 16]",
        "mov [r11 + 88], rax",
        "mov rax, [rsp + 8 + {spilled} + 24]",
        "mov [r11 + 112], rax",
        "mov rax, [rsp + 8 + {spilled} + 32]",
        "mov [r11 + 120], rax",
        "mov [rsp + 8 + {count}], r14",
        "lea r11, [rsp + 8]",
        "call {save_registers}",
        "lea rdi, [rsp + 8]",
        "mov rsi, r10",
        "call {callout}",
        "cmp eax, 1",
        "je 3f",
        "lea r11, [rsp + 8]",
        "call {load_registers}",
        "mov r15, [rsp + 8 + {tlb}]",
        "mov r11, [rsp + 8 + {slots}]",
        "mov rcx, [r11 + 72]",
        "mov [rsp + 8 + {spilled}], rcx",
        "mov rcx, [r11 + 80]",
        "mov [rsp + 8 + {spilled} + 8], rcx",
        "mov rcx, [r11 + 88]",
        "mov [rsp + 8 + {spilled} + 16], rcx",
        "mov rcx, [r11 + 112]",
        "mov [rsp + 8 + {spilled} + 24], rcx",
        "mov rcx, [r11 + 120]",
        "mov [rsp + 8 + {spilled} + 32], rcx",
        "mov r14, [rsp + 8 + {count}]",
        "test eax, eax",
        load_registers!(),
        "jne 2f",
        "ret",
        "2:",
        "add rsp, 8",
        "jmp [rsp + {scratch}]",
        "3:",
        "add rsp, 8",
        go_back!(),
        callout = sym callout,
        save_registers = sym save_registers,
        load_registers = sym load_registers,
        below = const KEPT_LEN + PAD,
        slots = const offset_of!(Frame, slots),
        spilled = const offset_of!(Frame, spilled),
        flags = const offset_of!(Frame, flags),
        link = const offset_of!(Frame, link),
        count = const offset_of!(Frame, count),
        scratch = const offset_of!(Frame, scratch),
        tlb = const offset_of!(Frame, tlb),
    )
}
