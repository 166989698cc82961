//! The child process: runs instructions on the processor.
//!
//! Everything happens in one signal handler. Its return (sigreturn) loads all registers of a case
//! and starts it; the exception that ends it enters the handler again, which finds all registers
//! in the frame. So a case costs one signal. Most cases are single-stepped by RFLAGS.TF, the
//! others run into the INT3 that fills the code pages.
//!
//! The handler runs with the FS base and the flags of the case, so it uses no thread-local
//! storage and calls nothing but memory copies and raw system calls.
#![allow(unsafe_code)]

use std::arch::x86_64::__cpuid_count;
use std::arch::{asm, naked_asm};
use std::ptr;

use cpu_host::{FOP, FPU_DP, FPU_IP, FpuState};

use crate::case::{CODE_LEN, Case, LINES, Outcome, writable_line};
use crate::layout::{CODE, CODE_PAGES, DATA, DATA_PAGES, FILLER, IMAGE, LINE, LOCALS, PAGE, Page};
use crate::shared::{Exchange, Shared};

/// Seconds for a batch.
const PATIENCE_S: u64 = 2;
const STACK: usize = 1 << 16;
/// Where the general registers are in `gregs`, in the order of ModRM.
const GREGS: [usize; 16] = [13, 14, 12, 11, 15, 10, 9, 8, 0, 1, 2, 3, 4, 5, 6, 7];
const GREG_RIP: usize = 16;
const GREG_FLAGS: usize = 17;
const GREG_SEGMENTS: usize = 18;
const GREG_ERROR: usize = 19;
const GREG_TRAP: usize = 20;
const GREG_CR2: usize = 22;
/// UC_FP_XSTATE, UC_SIGCONTEXT_SS and UC_STRICT_RESTORE_SS: SS is restored as it is.
const UC_FLAGS: u64 = 7;

/// Bytes of the FXSAVE area before those that belong to software.
const HARDWARE_LEGACY: usize = 464;
const XSTATE_BV: usize = 512;
/// XCR0 bits and offsets in the standard XSAVE format.
const AVX: u32 = 2;
const OPMASK: u32 = 5;
const ZMM_HIGH: u32 = 6;
const ZMM_16: u32 = 7;

struct Child {
    exchange: *mut Exchange,
    /// Writable view of the code pages.
    code: *mut u8,
    /// The case that runs, counted from 1; 0: none.
    running: usize,
    /// Cases of the batch.
    count: usize,
    /// Offset of each state component, 0 if the processor lacks it.
    offsets: [usize; 8],
    /// State components that there are.
    components: u64,
}

static mut CHILD: Child = Child {
    exchange: ptr::null_mut(),
    code: ptr::null_mut(),
    running: 0,
    count: 0,
    offsets: [0; 8],
    components: 0,
};

/// Runs batches of cases until the parent closes the pipe. Never returns.
pub fn main(fd: i32) -> ! {
    let shared = Shared::open(fd).expect("the parent's memory can be mapped");
    // SAFETY: the process has one thread and the handler is not installed yet.
    unsafe {
        let child = &mut *ptr::addr_of_mut!(CHILD);
        child.exchange = shared.pointer();
        child.code = map_code();
        map_data(&(*child.exchange).image);
        find_components(child);
        set_locals();
        stay_on_first_processor();
        install_handler();
        asm!("int3");
    }
    unreachable!("the handler does not come back here");
}

/// Linux keeps the processor's number in a descriptor, where LSL shows it; the engine's is 0.
unsafe fn stay_on_first_processor() {
    // SAFETY: the set is valid, and lives for the time of the calls. Where the processor may not be
    // used, that descriptor differs.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &raw const set);
    }
}

fn find_components(child: &mut Child) {
    let leaf = __cpuid_count(0xD, 0);
    child.components = u64::from(leaf.eax) & 0xE7;
    for number in [AVX, OPMASK, ZMM_HIGH, ZMM_16] {
        if leaf.eax & 1 << number != 0 {
            child.offsets[number as usize] = __cpuid_count(0xD, number).ebx as usize;
        }
    }
}

/// Maps memory at a fixed address, or anywhere for 0.
unsafe fn map(at: u64, len: usize, access: i32, flags: i32, fd: i32) -> *mut u8 {
    let fixed = if at == 0 { 0 } else { libc::MAP_FIXED_NOREPLACE };
    // SAFETY: replaces nothing.
    let memory = unsafe { libc::mmap(at as *mut _, len, access, flags | fixed, fd, 0) };
    assert_ne!(memory, libc::MAP_FAILED, "{at:#x} is free");
    memory.cast()
}

unsafe fn map_code() -> *mut u8 {
    let len = CODE_PAGES * PAGE;
    // SAFETY: a new file in two new mappings.
    unsafe {
        let fd = libc::memfd_create(c"oracle code".as_ptr(), 0);
        assert!(fd >= 0 && libc::ftruncate(fd, len as i64) == 0, "a memfd for code");
        let shared = libc::MAP_SHARED | libc::MAP_POPULATE;
        let code = map(0, len, libc::PROT_READ | libc::PROT_WRITE, shared, fd);
        ptr::write_bytes(code, FILLER, len);
        map(CODE, len, libc::PROT_READ | libc::PROT_EXEC, shared, fd);
        code
    }
}

unsafe fn map_data(image: &[u8; IMAGE]) {
    let access = libc::PROT_READ | libc::PROT_WRITE;
    let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS;
    for (number, page) in DATA_PAGES.into_iter().enumerate() {
        let at = number * PAGE;
        let address = DATA + at as u64;
        // SAFETY: the page is new and `image` covers as many bytes.
        unsafe {
            let memory = match page {
                Page::Absent => continue,
                _ => map(address, PAGE, access, flags, -1),
            };
            ptr::copy_nonoverlapping(image.as_ptr().add(at), memory, PAGE);
            if page == Page::ReadOnly {
                libc::mprotect(memory.cast(), PAGE, libc::PROT_READ);
            }
        }
    }
}

/// `struct user_desc` of modify_ldt(2).
#[repr(C)]
struct UserDesc {
    entry_number: u32,
    base_addr: u32,
    limit: u32,
    bits: u32,
}

unsafe fn set_locals() {
    for (number, local) in LOCALS.iter().enumerate() {
        let bits = u32::from(local.big)
            | local.contents << 1
            | u32::from(local.restricted) << 3
            | u32::from(local.pages) << 4
            | u32::from(!local.present) << 5;
        let entry_number = number as u32;
        let desc = UserDesc { entry_number, base_addr: local.base, limit: local.limit, bits };
        // SAFETY: changes descriptors that nothing uses.
        let result = unsafe {
            libc::syscall(libc::SYS_modify_ldt, 0x11, &raw const desc, size_of::<UserDesc>())
        };
        assert_eq!(result, 0, "modify_ldt");
    }
}

unsafe fn install_handler() {
    // SAFETY: the stack is new and never freed; the handler is made for being called at any
    // instruction of a case.
    unsafe {
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_POPULATE;
        let memory = map(0, STACK, libc::PROT_READ | libc::PROT_WRITE, flags, -1);
        let stack = libc::stack_t { ss_sp: memory.cast(), ss_flags: 0, ss_size: STACK };
        assert_eq!(libc::sigaltstack(&raw const stack, ptr::null_mut()), 0, "sigaltstack");
        let mut action: libc::sigaction = std::mem::zeroed();
        action.sa_sigaction = entry as *const () as usize;
        action.sa_flags = libc::SA_SIGINFO | libc::SA_ONSTACK;
        libc::sigfillset(&raw mut action.sa_mask);
        for signal in [libc::SIGSEGV, libc::SIGBUS, libc::SIGFPE, libc::SIGILL, libc::SIGTRAP] {
            assert_eq!(libc::sigaction(signal, &raw const action, ptr::null_mut()), 0, "sigaction");
        }
    }
}

/// The handler: clears AC, NT and ID, which the kernel leaves set, and goes on in Rust.
#[unsafe(naked)]
extern "C" fn entry() {
    naked_asm!("push 2", "popfq", "jmp {handler}", handler = sym handler)
}

unsafe extern "C" fn handler(_: i32, _: *const libc::siginfo_t, context: *mut libc::ucontext_t) {
    // SAFETY: the kernel gave the frame; the process has one thread, whose handlers do not nest.
    unsafe {
        let child = &mut *ptr::addr_of_mut!(CHILD);
        let context = &mut *context;
        let exchange = &mut *child.exchange;
        if child.running > 0 {
            let number = child.running - 1;
            let case = &exchange.cases[number];
            record(child, case, context, &mut exchange.outcomes[number]);
            put_back(child, case, &exchange.image, &mut exchange.outcomes[number]);
        }
        if child.running == child.count {
            child.count = next_batch(child.running > 0);
            child.running = 0;
        }
        let case = &exchange.cases[child.running];
        child.running += 1;
        prepare_memory(child, case);
        load(child, case, context);
    }
}

/// Tells the parent that a batch is done and waits for the next one. Returns its length.
unsafe fn next_batch(done: bool) -> usize {
    let mut count = 0_u8;
    // SAFETY: `write` and `read` on bytes of this frame.
    unsafe {
        // An instruction that the kernel runs again and again is ended by SIGALRM.
        system_call(libc::SYS_alarm, 0, 0, 0);
        if done {
            system_call(libc::SYS_write, 1, &raw mut count as u64, 1);
        }
        if system_call(libc::SYS_read, 0, &raw mut count as u64, 1) != 1 {
            system_call(libc::SYS_exit_group, 0, 0, 0);
        }
        system_call(libc::SYS_alarm, PATIENCE_S, 0, 0);
    }
    usize::from(count)
}

/// A system call that does not touch `errno`, which is thread-local.
unsafe fn system_call(number: i64, a: u64, b: u64, c: u64) -> i64 {
    let mut result = number;
    // SAFETY: the caller's.
    unsafe {
        asm!(
            "syscall",
            inout("rax") result,
            in("rdi") a, in("rsi") b, in("rdx") c,
            out("rcx") _, out("r11") _,
        );
    }
    result
}

/// Offset of a case's instruction in the code pages.
fn code_offset(case: &Case) -> usize {
    let base = if case.bits == 16 { 0 } else { CODE };
    (case.rip.wrapping_sub(base) as usize).min(CODE_PAGES * PAGE)
}

/// Bytes of it that are in the code pages.
fn code_len(case: &Case) -> usize {
    (case.len as usize).min(CODE_LEN).min(CODE_PAGES * PAGE - code_offset(case))
}

unsafe fn prepare_memory(child: &Child, case: &Case) {
    // SAFETY: the code pages hold `code_len` bytes at `code_offset`; pokes were checked to be in
    // writable lines by `Case::poke`.
    unsafe {
        let code = child.code.add(code_offset(case));
        ptr::copy_nonoverlapping(case.code.as_ptr(), code, code_len(case));
        for poke in &case.pokes {
            let to = (DATA as usize + poke.at as usize) as *mut u8;
            ptr::copy_nonoverlapping(poke.bytes.as_ptr(), to, (poke.len as usize).min(LINE));
        }
    }
}

/// Records the memory that has changed and makes all as it was.
unsafe fn put_back(child: &Child, case: &Case, image: &[u8; IMAGE], outcome: &mut Outcome) {
    let mut found = 0;
    // SAFETY: as in `prepare_memory`; lines are looked at in present pages only.
    unsafe {
        ptr::write_bytes(child.code.add(code_offset(case)), FILLER, code_len(case));
        for (number, line) in image.chunks_exact(LINE).enumerate() {
            let memory = (DATA as usize + number * LINE) as *mut u8;
            if !writable_line(number) || same_line(memory, line.as_ptr()) {
                continue;
            }
            if found < LINES {
                let slot = &mut outcome.lines[found];
                slot.number = number as u32;
                ptr::copy_nonoverlapping(memory, slot.bytes.as_mut_ptr(), LINE);
            }
            found += 1;
            ptr::copy_nonoverlapping(line.as_ptr(), memory, LINE);
        }
    }
    outcome.nr_lines = found as u32;
}

/// Whether two lines are equal.
unsafe fn same_line(a: *const u8, b: *const u8) -> bool {
    // SAFETY: both have `LINE` bytes.
    unsafe { *a.cast::<[u64; 8]>() == b.cast::<[u64; 8]>().read_unaligned() }
}

/// Puts all registers of a case into the frame, and those that frames do not have into place.
unsafe fn load(child: &Child, case: &Case, context: &mut libc::ucontext_t) {
    let [es, cs, ss, ds, fs, gs] = case.seg;
    let gregs = &mut context.uc_mcontext.gregs;
    for (number, at) in GREGS.into_iter().enumerate() {
        gregs[at] = case.gpr[number] as i64;
    }
    gregs[GREG_RIP] = case.rip as i64;
    gregs[GREG_FLAGS] = case.rflags as i64;
    gregs[GREG_SEGMENTS] = i64::from(cs) | i64::from(ss) << 48;
    context.uc_flags |= UC_FLAGS;
    // SAFETY: the kernel's frame has all components that are enabled; the selectors are those of
    // descriptors that a program may load, and nothing here uses FS or GS.
    unsafe {
        store_fpu(child, &case.fpu, context.uc_mcontext.fpregs.cast());
        asm!("mov es, {0:x}", "mov ds, {1:x}", in(reg) es, in(reg) ds);
        asm!("mov fs, {0:x}", "mov gs, {1:x}", in(reg) fs, in(reg) gs);
        if case.bits == 64 {
            asm!("wrfsbase {0}", "wrgsbase {1}", in(reg) case.fs_base, in(reg) case.gs_base);
        }
    }
}

unsafe fn record(child: &Child, case: &Case, context: &libc::ucontext_t, outcome: &mut Outcome) {
    let gregs = &context.uc_mcontext.gregs;
    for (number, at) in GREGS.into_iter().enumerate() {
        outcome.gpr[number] = gregs[at] as u64;
    }
    outcome.rip = gregs[GREG_RIP] as u64;
    outcome.rflags = gregs[GREG_FLAGS] as u64;
    outcome.vector = gregs[GREG_TRAP] as u32;
    outcome.error_code = gregs[GREG_ERROR] as u32;
    outcome.cr2 = gregs[GREG_CR2] as u64;
    let segments = gregs[GREG_SEGMENTS] as u64;
    let (es, ds, fs, gs): (u16, u16, u16, u16);
    // SAFETY: reads registers.
    unsafe {
        asm!("mov {0:x}, es", "mov {1:x}, ds", out(reg) es, out(reg) ds);
        asm!("mov {0:x}, fs", "mov {1:x}, gs", out(reg) fs, out(reg) gs);
        asm!("rdfsbase {0}", "rdgsbase {1}", out(reg) outcome.fs_base, out(reg) outcome.gs_base);
        fetch_fpu(child, context.uc_mcontext.fpregs.cast(), &mut outcome.fpu);
    }
    outcome.seg = [es, segments as u16, (segments >> 48) as u16, ds, fs, gs];
    if case.bits != 64 {
        (outcome.fs_base, outcome.gs_base) = (0, 0);
    }
}

/// Writes all components into an XSAVE area of the standard format.
unsafe fn store_fpu(child: &Child, fpu: &FpuState, area: *mut u8) {
    // SAFETY: the caller's area has all components.
    unsafe {
        ptr::copy_nonoverlapping(fpu.legacy.as_ptr(), area, HARDWARE_LEGACY);
        area.add(FOP).cast::<u16>().write_unaligned(fpu.pointers.opcode);
        area.add(FPU_IP).cast::<u64>().write_unaligned(fpu.pointers.ip);
        area.add(FPU_DP).cast::<u64>().write_unaligned(fpu.pointers.dp);
        area.add(XSTATE_BV).cast::<u64>().write_unaligned(child.components);
        for (number, zmm) in fpu.zmm.iter().enumerate() {
            for (part, at) in zmm_parts(child, number) {
                let from = zmm.as_ptr().add(part.start);
                ptr::copy_nonoverlapping(from, area.add(at), part.len());
            }
        }
        if child.offsets[OPMASK as usize] != 0 {
            let to = area.add(child.offsets[OPMASK as usize]);
            ptr::copy_nonoverlapping(fpu.opmask.as_ptr().cast(), to, size_of_val(&fpu.opmask));
        }
    }
}

/// Reads all components; those in their initial state have that.
unsafe fn fetch_fpu(child: &Child, area: *const u8, fpu: &mut FpuState) {
    // SAFETY: as in `store_fpu`.
    unsafe {
        let valid = area.add(XSTATE_BV).cast::<u64>().read_unaligned();
        fpu.legacy.fill(0);
        fpu.legacy[1] = 0x03;
        fpu.legacy[0] = 0x7F;
        // MXCSR and its mask are always there.
        ptr::copy_nonoverlapping(area.add(24), fpu.legacy.as_mut_ptr().add(24), 8);
        if valid & 1 != 0 {
            ptr::copy_nonoverlapping(area, fpu.legacy.as_mut_ptr(), 160);
        }
        fpu.pointers.opcode = area.add(FOP).cast::<u16>().read_unaligned();
        fpu.pointers.ip = area.add(FPU_IP).cast::<u64>().read_unaligned();
        fpu.pointers.dp = area.add(FPU_DP).cast::<u64>().read_unaligned();
        for (number, zmm) in fpu.zmm.iter_mut().enumerate() {
            zmm.fill(0);
            for (part, at) in zmm_parts(child, number) {
                if valid & 1 << component(number, part.start) != 0 {
                    let to = zmm.as_mut_ptr().add(part.start);
                    ptr::copy_nonoverlapping(area.add(at), to, part.len());
                }
            }
        }
        fpu.opmask.fill(0);
        if child.offsets[OPMASK as usize] != 0 && valid & 1 << OPMASK != 0 {
            let from = area.add(child.offsets[OPMASK as usize]);
            ptr::copy_nonoverlapping(
                from,
                fpu.opmask.as_mut_ptr().cast(),
                size_of_val(&fpu.opmask),
            );
        }
    }
}

/// The state component that holds the byte of a vector register.
fn component(number: usize, byte: usize) -> u32 {
    match (number, byte) {
        (16.., _) => ZMM_16,
        (_, 0) => 1,
        (_, 16) => AVX,
        _ => ZMM_HIGH,
    }
}

/// The parts of a vector register and their offsets in the area.
fn zmm_parts(
    child: &Child,
    number: usize,
) -> impl Iterator<Item = (std::ops::Range<usize>, usize)> + use<> {
    let at = |component: u32| child.offsets[component as usize];
    let parts = if number < 16 {
        [
            (0..16, 160 + number * 16),
            (16..32, at(AVX) + if at(AVX) == 0 { 0 } else { number * 16 }),
            (32..64, at(ZMM_HIGH) + if at(ZMM_HIGH) == 0 { 0 } else { number * 32 }),
        ]
    } else {
        let high = at(ZMM_16) + if at(ZMM_16) == 0 { 0 } else { (number - 16) * 64 };
        [(0..64, high), (0..0, 0), (0..0, 0)]
    };
    parts.into_iter().filter(|(_, at)| *at != 0)
}
