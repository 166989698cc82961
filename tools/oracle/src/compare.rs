//! Finds what two outcomes differ in.

use cpu_host::{FCW, FSW, FTW, MXCSR};
use iced_x86::{Code, Instruction, Mnemonic, Register, RflagsBits};

use crate::case::{Case, LINES, Line, Outcome, describe_end, end};
use crate::layout::{LINE, USER_CS};
use crate::vendor;

/// Names of the general registers.
pub const GPR_NAMES: [&str; 16] = [
    "rax", "rcx", "rdx", "rbx", "rsp", "rbp", "rsi", "rdi", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15",
];
/// Names of the segment registers.
pub const SEGMENT_NAMES: [&str; 6] = ["es", "cs", "ss", "ds", "fs", "gs"];

/// Position of RSP in [`GPR_NAMES`], and of CS in [`SEGMENT_NAMES`].
const RSP: usize = 4;
pub const CS: usize = 1;
/// #GP.
pub const GENERAL_PROTECTION: u32 = 13;
const PAGE_FAULT: u32 = 14;
/// FSW.ES.
const ERROR_SUMMARY: u16 = 0x80;
/// CF, PF, AF, ZF, SF, OF.
const STATUS: u64 = 0x8D5;
/// MXCSR.MM, which the engine's processor does not have.
const MISALIGNED_MASK: u32 = 1 << 17;
/// Linux reports a fault above the user's half as one on a present page, whatever it was.
const UPPER_HALF: u64 = (1 << 47) - 0x1000;

/// One thing in which the outcomes differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Difference {
    /// What: "rax", "zmm3", "memory".
    pub field: String,
    /// On the host.
    pub native: String,
    /// In the engine.
    pub engine: String,
}

/// What is let pass.
#[derive(Clone, Copy, Debug, Default)]
pub struct Tolerance {
    /// Compare undefined flags, too.
    pub strict_flags: bool,
    /// The engine may lack instructions.
    pub skip_unsupported: bool,
    /// The host's processor is not AMD's, see [`crate::vendor`].
    pub other_vendor: bool,
}

/// All differences.
#[must_use]
pub fn differences(
    case: &Case,
    instruction: &Instruction,
    native: &Outcome,
    engine: &Outcome,
    tolerance: Tolerance,
) -> Vec<Difference> {
    let mut found = Found(Vec::new());
    if both_refuse(case, instruction, native, engine) || both_fault(instruction, native, engine) {
        return found.0;
    }
    if tolerance.other_vendor && vendor::is_open(case, instruction, native, engine) {
        return found.0;
    }
    if is_wide_far_call(case, instruction) {
        return found.0;
    }
    if loads_misaligned_mask(native, engine) {
        return found.0;
    }
    if engine.vector == end::UNSUPPORTED && tolerance.skip_unsupported {
        return found.0;
    }
    if native.vector != engine.vector {
        let text = |outcome: &Outcome| describe_end(outcome.vector);
        found.add("end", text(native), text(engine));
        if engine.vector == end::UNSUPPORTED || native.vector == end::DIED {
            return found.0;
        }
    } else {
        compare_fault(&mut found, instruction, native, engine);
    }
    compare_general(&mut found, case, instruction, native, engine);
    // Or it did, and the next one could not be fetched.
    let completed = matches!(native.vector, 1 | 3) || native.rip != case.rip;
    let undefined = match completed {
        true if shifts_too_far(case, instruction) => STATUS,
        true if !tolerance.strict_flags => undefined(instruction),
        _ => 0,
    };
    found.hex("rflags", native.rflags & !undefined, engine.rflags & !undefined);
    compare_x87(&mut found, native, engine);
    compare_vectors(&mut found, native, engine);
    let saves = instruction.op_code().is_save_restore();
    compare_memory(&mut found, native, engine, saves);
    found.0
}

/// An undefined opcode with so many prefixes that it may be longer than 15 bytes: how long the
/// processor takes it to be, and so whether it is #UD or #GP, is known to its maker only.
fn both_refuse(case: &Case, instruction: &Instruction, native: &Outcome, engine: &Outcome) -> bool {
    const PREFIXES: [u8; 11] = [0x26, 0x2E, 0x36, 0x3E, 0x64, 0x65, 0x66, 0x67, 0xF0, 0xF2, 0xF3];
    let refused = |outcome: &Outcome| matches!(outcome.vector, 6 | 13);
    // At the end of a page it may or may not want a byte of the next one.
    let ends = case.rip & 0xFFF >= 0xFF0;
    if instruction.is_invalid() && ends {
        return matches!(native.vector, 6 | 13 | 14) && matches!(engine.vector, 6 | 13 | 14);
    }
    let prefixes = case.code.iter().take_while(|byte| PREFIXES.contains(byte)).count();
    instruction.is_invalid() && prefixes >= 2 && refused(native) && refused(engine)
}

/// A far call of 32 bits behind REX.W: AMD's processors push slots of 64 bits.
fn is_wide_far_call(case: &Case, instruction: &Instruction) -> bool {
    let is_wide = |byte: &u8| byte & 0xF8 == 0x48;
    let wide = case.bits == 64 && case.code.iter().take(14).any(is_wide);
    wide && matches!(instruction.code(), Code::Call_m1632 | Code::Call_m1616)
}

/// Returns, calls, ENTER and PUSHA that have several things wrong at a time report another one; so
/// do gathers with a segment base, which AMD adds to an address that was checked before.
fn both_fault(instruction: &Instruction, native: &Outcome, engine: &Outcome) -> bool {
    // Linux ends a process whose stack it cannot use for the signal.
    let fault = |outcome: &Outcome| matches!(outcome.vector, 10..=14 | 17 | end::DIED);
    let has_base = matches!(instruction.memory_segment(), Register::FS | Register::GS);
    if instruction.is_vsib() && has_base {
        return fault(native) && fault(engine);
    }
    let several = matches!(
        instruction.mnemonic(),
        Mnemonic::Retf
            | Mnemonic::Iret
            | Mnemonic::Iretd
            | Mnemonic::Iretq
            | Mnemonic::Call
            | Mnemonic::Enter
            | Mnemonic::Pusha
            | Mnemonic::Pushad
    );
    several && fault(native) && fault(engine)
}

/// The host has loaded MXCSR.MM, a reserved bit in the engine.
fn loads_misaligned_mask(native: &Outcome, engine: &Outcome) -> bool {
    native.fpu.u32(MXCSR) & MISALIGNED_MASK != 0 && engine.vector == GENERAL_PROTECTION
}

struct Found(Vec<Difference>);

impl Found {
    fn add(&mut self, field: impl Into<String>, native: String, engine: String) {
        self.0.push(Difference { field: field.into(), native, engine });
    }

    fn hex(&mut self, field: impl Into<String>, native: u64, engine: u64) {
        if native != engine {
            self.add(field, format!("{native:#x}"), format!("{engine:#x}"));
        }
    }

    fn bytes(&mut self, field: impl Into<String>, native: &[u8], engine: &[u8]) {
        if native != engine {
            self.add(field, digits(native), digits(engine));
        }
    }
}

/// A little-endian number in hexadecimal digits.
#[must_use]
pub fn digits(bytes: &[u8]) -> String {
    let groups = bytes
        .rchunks(8)
        .map(|group| group.iter().rev().map(|byte| format!("{byte:02x}")).collect::<String>());
    groups.collect::<Vec<_>>().join("_")
}

fn compare_fault(found: &mut Found, instruction: &Instruction, native: &Outcome, engine: &Outcome) {
    let mut error_codes = (native.error_code, engine.error_code);
    if native.vector == PAGE_FAULT {
        if !has_save_area(instruction) {
            found.hex("cr2", native.cr2, engine.cr2);
        }
        if native.cr2 >= UPPER_HALF {
            error_codes = (error_codes.0 | 1, error_codes.1 | 1);
        }
    }
    if matches!(native.vector, 8 | 10..=14 | 17) {
        found.hex("error code", error_codes.0.into(), error_codes.1.into());
    }
}

fn has_save_area(instruction: &Instruction) -> bool {
    instruction.op_code().is_save_restore()
        || matches!(
            instruction.mnemonic(),
            Mnemonic::Fnsave | Mnemonic::Frstor | Mnemonic::Fnstenv | Mnemonic::Fldenv
        )
}

fn is_popa(instruction: &Instruction) -> bool {
    matches!(instruction.code(), Code::Popaw | Code::Popad)
}

/// SHLD or SHRD of 16 bits by more than 16: flags and result are undefined.
pub fn shifts_too_far(case: &Case, instruction: &Instruction) -> bool {
    let by_cl = case.gpr[1] as u8;
    let count = match instruction.code() {
        Code::Shld_rm16_r16_CL | Code::Shrd_rm16_r16_CL => by_cl,
        Code::Shld_rm16_r16_imm8 | Code::Shrd_rm16_r16_imm8 => instruction.immediate8(),
        _ => 0,
    };
    count & 31 > 16
}

fn compare_general(
    found: &mut Found,
    case: &Case,
    instruction: &Instruction,
    native: &Outcome,
    engine: &Outcome,
) {
    let (count, mask) = if case.bits == 64 { (16, u64::MAX) } else { (8, 0xFFFF_FFFF) };
    // A host's POPA that faults halfway has loaded registers; a rule is that nothing changes.
    let halfway = matches!(native.vector, 12..=14 | 17) && is_popa(instruction);
    // Leaving compatibility mode, where a far jump may have led, cuts RSP.
    let cut = native.seg[CS] != USER_CS;
    for (number, name) in GPR_NAMES.into_iter().enumerate().take(count).filter(|_| !halfway) {
        let mask = if number == RSP && cut { 0xFFFF_FFFF } else { mask };
        found.hex(name, native.gpr[number] & mask, engine.gpr[number] & mask);
    }
    found.hex("rip", native.rip & mask, engine.rip & mask);
    for (number, name) in SEGMENT_NAMES.into_iter().enumerate() {
        // The way back from the kernel of the host clears the RPL of a null selector.
        let seen = |selector: u16| if selector < 4 { 0 } else { u64::from(selector) };
        found.hex(name, seen(native.seg[number]), seen(engine.seg[number]));
    }
    found.hex("fs base", native.fs_base, engine.fs_base);
    found.hex("gs base", native.gs_base, engine.gs_base);
}

fn compare_x87(found: &mut Found, native: &Outcome, engine: &Outcome) {
    let (a, b) = (&native.fpu, &engine.fpu);
    for (name, at) in [("fcw", FCW), ("fsw", FSW)] {
        found.hex(name, a.u16(at).into(), b.u16(at).into());
    }
    found.hex("ftw", a.legacy[FTW].into(), b.legacy[FTW].into());
    // AMD's processors show the pointers only while an unmasked exception waits.
    if a.u16(FSW) & ERROR_SUMMARY != 0 {
        found.hex("fop", a.pointers.opcode.into(), b.pointers.opcode.into());
        found.hex("fip", a.pointers.ip, b.pointers.ip);
        found.hex("fdp", a.pointers.dp, b.pointers.dp);
    }
    found.hex("mxcsr", a.u32(MXCSR).into(), b.u32(MXCSR).into());
    for number in 0..8 {
        let at = 32 + number * 16;
        found.bytes(format!("st{number}"), &a.legacy[at..at + 10], &b.legacy[at..at + 10]);
    }
}

fn compare_vectors(found: &mut Found, native: &Outcome, engine: &Outcome) {
    for (number, (a, b)) in native.fpu.zmm.iter().zip(&engine.fpu.zmm).enumerate() {
        found.bytes(format!("zmm{number}"), a, b);
    }
    for (number, (&a, &b)) in native.fpu.opmask.iter().zip(&engine.fpu.opmask).enumerate() {
        found.hex(format!("k{number}"), a, b);
    }
}

fn compare_memory(found: &mut Found, native: &Outcome, engine: &Outcome, saves: bool) {
    if native.nr_lines as usize > LINES || engine.nr_lines as usize > LINES {
        found.hex("changed lines", native.nr_lines.into(), engine.nr_lines.into());
        return;
    }
    let (mut a, mut b) = (native.changed().iter().peekable(), engine.changed().iter().peekable());
    while let Some(number) = a.peek().into_iter().chain(b.peek()).map(|line| line.number).min() {
        let one = a.next_if(|line| line.number == number);
        let other = b.next_if(|line| line.number == number);
        let text =
            |line: Option<&Line>| line.map_or("unchanged".into(), |line| digits(&line.bytes));
        let equal = one == other
            || saves && one.zip(other).is_some_and(|(one, other)| same_but_mask(one, other));
        if !equal {
            let at = crate::layout::DATA + u64::from(number) * LINE as u64;
            found.add(format!("memory {at:#x}"), text(one), text(other));
        }
    }
}

/// Whether lines differ in MXCSR_MASK alone, which says what the processor has.
fn same_but_mask(one: &Line, other: &Line) -> bool {
    let words = one.bytes.chunks_exact(4).zip(other.bytes.chunks_exact(4));
    words.into_iter().all(|(a, b)| a == b || (a == [0xFF, 0xFF, 2, 0] && b == [0xFF, 0xFF, 0, 0]))
}

/// RFLAGS bits that the manuals leave undefined.
fn undefined(instruction: &Instruction) -> u64 {
    let bits = instruction.rflags_undefined();
    let pairs = [
        (RflagsBits::OF, 1 << 11),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::CF, 1 << 0),
        (RflagsBits::PF, 1 << 2),
    ];
    pairs.into_iter().filter(|(bit, _)| bits & bit != 0).fold(0, |mask, (_, flag)| mask | flag)
}
