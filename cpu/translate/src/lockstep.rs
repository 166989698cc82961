//! The translator beside tier 0: whatever is copied runs in both, from the same state, and has to lead
//! to the same one.
//!
//! Tier 0 goes first and is undone, with its stores, which other processors must not see: this is for
//! virtual machines with one. Callouts are blocks of their own and run once. Bits that a walk sets in
//! page tables are neither undone nor compared. Flags that are undefined are not compared, and what looks
//! at them begins a block.

use std::collections::HashMap;
use std::fmt::Write;
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};

use cpu_defs::rflags;
use cpu_host::FpuState;
use cpu_interp::state::{Arch, Shadow};
use cpu_interp::{Cpu, Executed, Interp, Outcome, Stop};
use cpu_mem::{HostPage, PAGE_SIZE};
use cpu_mmu::translate;
use iced_x86::{Instruction, Mnemonic, OpKind, Register, RflagsBits};

use crate::callout::is_translatable;
use crate::effects::{Item, Kind, STATUS, shifts_by_variable};
use crate::far_bit::FarBit;
use crate::limit::CodeLimit;
use crate::pages::{At, INTERPRET, STALE};
use crate::string::Moves;
use crate::system::System;
use crate::translator::Translator;

/// Most elements of a repeated string instruction that is compared.
const SHORT: u64 = 8192;

/// The instructions of the blocks, by where they are.
pub(crate) type Stretches = HashMap<At, Box<[Item]>>;

/// Both tiers of one processor.
pub struct Lockstep {
    translator: Translator,
}

/// What a tier makes of a block.
struct End {
    arch: Arch,
    /// If the block uses them.
    fpu: Option<Box<FpuState>>,
    stop: Option<Stop>,
}

/// A store to guest memory.
struct Store {
    page: HostPage,
    offset: usize,
    before: Vec<u8>,
    after: Vec<u8>,
}

impl Lockstep {
    /// See [`Translator::new`]; everything is translated at once.
    #[must_use]
    pub fn new(executed: Arc<Executed>, limit: &Arc<CodeLimit>) -> Option<Self> {
        let mut translator = Translator::new(executed, 0, limit)?;
        translator.stretches = Some(Stretches::default());
        Some(Lockstep { translator })
    }

    /// As [`Translator::run`].
    ///
    /// # Panics
    /// When the tiers do not agree; the message says where and how.
    pub fn run(&mut self, interp: &mut Interp, kick: &AtomicU32) -> Outcome {
        loop {
            if let Some(outcome) = self.run_block(interp) {
                return outcome;
            }
            if kick.load(Ordering::Relaxed) != 0 {
                return Outcome::Boundary;
            }
        }
    }

    fn run_block(&mut self, interp: &mut Interp) -> Option<Outcome> {
        let translator = &mut self.translator;
        if interp.cpu.attention {
            return interp.after_attention();
        }
        translator.follow(interp);
        if !is_translatable(&interp.cpu) {
            return interp.run_one_block();
        }
        let rip = interp.cpu.arch.rip();
        let Some((block, code)) = translator.block_at(interp, rip) else {
            return single(interp);
        };
        let items = translator.items(block);
        let comparable = |item: &Item| is_copied(item) || is_short_repetition(item, &interp.cpu);
        if !items.first().is_some_and(comparable) {
            return single(interp);
        }
        let Some((expected, stores)) = rehearse(&mut interp.cpu, items) else {
            // A store to code is noticed once, and it was, though it is undone.
            interp.drop_stale_code();
            return single(interp);
        };
        // To the end of the block: who wants something waits for that.
        let never = AtomicU32::new(0);
        let mut left = translator.enter(interp, &never, code);
        while let Some(code) = translator.twin_behind(interp, left) {
            left = translator.enter(interp, &never, code);
        }
        if left == u64::from(STALE) || left == u64::from(INTERPRET) {
            return single(interp);
        }
        let end = End {
            arch: interp.cpu.arch,
            fpu: expected.fpu.as_ref().map(|_| Box::new(interp.cpu.fpu.clone())),
            stop: translator.context.stop,
        };
        let items = translator.items(block);
        // An instruction that stops leaves those of any before it.
        let stops = expected.stop.is_some();
        let undefined = items.iter().fold(0, |all, item| {
            let behind = undefined_behind(all, &item.instruction);
            if stops { all | behind } else { behind }
        });
        let (mut expected, mut end) = (expected, end);
        for end in [&mut expected, &mut end] {
            end.arch.rflags &= !in_rflags(undefined);
        }
        let differences = differences(&expected, &end, &stores);
        assert!(
            differences.is_empty(),
            "the tiers differ in {}:\n{differences}",
            listing(rip, translator.items(block))
        );
        translator.after(interp, 0)
    }
}

fn single(interp: &mut Interp) -> Option<Outcome> {
    match interp.step() {
        // A step ends so, and so does one behind which an interrupt may be taken.
        Outcome::Boundary if !interp.cpu.watch_interrupt_flag => None,
        outcome => Some(outcome),
    }
}

/// Status flags that the manuals leave undefined behind an instruction, of which those in `before` were
/// so before it. Tier 0 has what AMD's processors make of them, translated code what the host does.
pub(crate) fn undefined_behind(before: u32, instruction: &Instruction) -> u32 {
    let undefined = instruction.rflags_undefined() & STATUS;
    let defined =
        instruction.rflags_written() | instruction.rflags_cleared() | instruction.rflags_set();
    // A count of zero leaves them as they were.
    let kept = if shifts_by_variable(instruction) { before } else { before & !defined };
    kept | undefined
}

/// Status flags that an instruction looks at.
pub(crate) fn flags_read(instruction: &Instruction) -> u32 {
    match instruction.mnemonic() {
        Mnemonic::Pushf | Mnemonic::Pushfd | Mnemonic::Pushfq => STATUS,
        _ => instruction.rflags_read() & STATUS,
    }
}

/// As in RFLAGS.
fn in_rflags(flags: u32) -> u64 {
    let pairs = [
        (RflagsBits::OF, 1 << 11),
        (RflagsBits::SF, 1 << 7),
        (RflagsBits::ZF, 1 << 6),
        (RflagsBits::AF, 1 << 4),
        (RflagsBits::PF, 1 << 2),
        (RflagsBits::CF, 1),
    ];
    pairs.into_iter().filter(|(flag, _)| flags & flag != 0).fold(0, |all, (_, bit)| all | bit)
}

/// It changes registers and memory, and nothing else.
pub(crate) fn is_copied(item: &Item) -> bool {
    use Kind as K;
    matches!(
        item.kind,
        K::Nothing
            | K::Copied
            | K::LoadControl
            | K::Look
            | K::Lea
            | K::Push
            | K::Pop
            | K::Leave
            | K::Divide
            | K::String(Moves { repeated: false, .. })
            | K::System(_)
            | K::FarBit(_)
            | K::Call
            | K::Return
            | K::Jump
            | K::JumpIf
    ) || matches!(item.kind, K::Read(reading) if reading.stays())
}

/// A repeated string instruction, which is a block of its own, whose stores can be undone.
fn is_short_repetition(item: &Item, cpu: &Cpu) -> bool {
    matches!(item.kind, Kind::String(Moves { repeated: true, .. }))
        && value(cpu, Register::RCX).is_some_and(|count| count <= SHORT)
}

/// Has tier 0 execute a block, and undoes it: what it has led to, and the stores. None: it needs more
/// than registers and memory.
fn rehearse(cpu: &mut Cpu, items: &[Item]) -> Option<(End, Vec<Store>)> {
    let uses_fpu = items.iter().any(|item| item.used.is_some());
    let (arch, fpu) = (cpu.arch, uses_fpu.then(|| Box::new(cpu.fpu.clone())));
    let mut stores = Vec::new();
    let mut stop = None;
    for item in items {
        note_stores(cpu, item, &mut stores);
        let start = cpu.arch.rip();
        if item.shadowed {
            cpu.arch.shadow = Shadow::None;
        }
        cpu.arch.set_rip(start.wrapping_add(u64::from(item.op.len)));
        if let Err(why) = (item.op.run)(cpu, &item.op) {
            cpu.arch.set_rip(start);
            stop = Some(why);
        }
        if stop.is_some() || cpu.attention {
            break;
        }
    }
    for store in &mut stores {
        store.page.copy_out(store.offset, &mut store.after);
    }
    for store in stores.iter().rev() {
        store.page.copy_in(store.offset, &store.before);
    }
    let end = End { arch: cpu.arch, fpu: fpu.as_ref().map(|_| Box::new(cpu.fpu.clone())), stop };
    cpu.arch = arch;
    cpu.refresh();
    if let Some(fpu) = fpu {
        cpu.fpu = *fpu;
    }
    let elsewhere = cpu.attention || !matches!(stop, None | Some(Stop::Fault(_)));
    cpu.attention = false;
    cpu.forget_access();
    (!elsewhere).then_some((end, stores))
}

/// Notes what an instruction is about to store to, piece by piece.
fn note_stores(cpu: &Cpu, item: &Item, stores: &mut Vec<Store>) {
    let Some((gla, len)) = destination(cpu, item) else { return };
    let mut done = 0;
    while done < len {
        let gla = gla.wrapping_add(done as u64);
        let offset = gla as usize % PAGE_SIZE;
        let piece = (len - done).min(PAGE_SIZE - offset);
        done += piece;
        let found = translate(&cpu.memory.paging, &cpu.memory.map, gla).ok();
        if let Some(page) = found.and_then(|found| cpu.memory.map.page(found.gpa)) {
            let mut before = vec![0; piece];
            page.copy_out(offset, &mut before);
            stores.push(Store { page, offset, after: vec![0; piece], before });
        }
    }
}

/// The linear address and the length of what an instruction stores to.
fn destination(cpu: &Cpu, item: &Item) -> Option<(u64, usize)> {
    let instruction = &item.instruction;
    if matches!(item.kind, Kind::Push | Kind::Call | Kind::System(System::Pushf)) {
        return Some((value(cpu, Register::RSP)?.wrapping_sub(8), 8));
    }
    if let Kind::String(moves) = item.kind {
        let count = if moves.repeated { value(cpu, Register::RCX)? } else { 1 };
        let len = count * moves.len as u64;
        let down = cpu.arch.rflags & rflags::DF != 0;
        let below = if down { len.saturating_sub(moves.len as u64) } else { 0 };
        let first = value(cpu, Register::RDI)?.wrapping_sub(below);
        return moves.stores.then_some((first, len as usize));
    }
    if let Kind::FarBit(bit) = item.kind {
        return bit.writes().then(|| far_word(cpu, instruction, bit)).flatten();
    }
    if !item.writes_memory {
        return None;
    }
    let operand = (0..instruction.op_count()).find(|&n| is_memory(instruction, n))?;
    let gla = instruction.virtual_address(operand, 0, |register, _, _| value(cpu, register))?;
    Some((gla, instruction.memory_size().size()))
}

/// The word that a bit test changes.
fn far_word(cpu: &Cpu, instruction: &Instruction, bit: FarBit) -> Option<(u64, usize)> {
    let gla = instruction.virtual_address(0, 0, |register, _, _| value(cpu, register))?;
    let index = value(cpu, instruction.op1_register())? as i64;
    let index = if bit.len == 8 { index } else { i64::from(index as i32) };
    let words = index >> bit.shift();
    Some((gla.wrapping_add(words.wrapping_mul(bit.len as i64) as u64), bit.len))
}

fn is_memory(instruction: &Instruction, operand: u32) -> bool {
    instruction.op_kind(operand) == OpKind::Memory
}

/// A general register, or the base of a segment.
fn value(cpu: &Cpu, register: Register) -> Option<u64> {
    if register.is_segment_register() {
        let segment = cpu_defs::SegReg::ALL.get(register.number())?;
        let based = matches!(register, Register::FS | Register::GS);
        return Some(if based { cpu.arch.segment(*segment).base } else { 0 });
    }
    register.is_gpr().then(|| cpu.arch.slots[register.full_register().number()])
}

/// What a block is made of.
fn listing(rip: u64, items: &[Item]) -> String {
    let codes: Vec<_> = items.iter().map(|item| format!("{:?}", item.instruction.code())).collect();
    format!("the block at {rip:#x} ({})", codes.join(", "))
}

/// What is not the same, a line each.
fn differences(expected: &End, end: &End, stores: &[Store]) -> String {
    let mut text = String::new();
    if expected.arch != end.arch {
        let (left, right) = (&expected.arch, &end.arch);
        for (number, (left, right)) in left.slots.iter().zip(right.slots).enumerate() {
            if *left != right {
                let _ = writeln!(text, "register {number}: tier 0 {left:#x}, tier 1 {right:#x}");
            }
        }
        let _ = writeln!(text, "RFLAGS: tier 0 {:#x}, tier 1 {:#x}", left.rflags, right.rflags);
    }
    let [left, right] = [expected, end].map(|end| end.fpu.as_deref());
    if left.map(comparable) != right.map(comparable) {
        let _ = writeln!(text, "vector or x87 registers: tier 0 {left:x?}, tier 1 {right:x?}");
    }
    if expected.stop != end.stop {
        let _ = writeln!(text, "the end: tier 0 {:?}, tier 1 {:?}", expected.stop, end.stop);
    }
    for store in stores {
        let Store { page, offset, after, .. } = store;
        let mut now = vec![0; after.len()];
        page.copy_out(*offset, &mut now);
        if now != *after {
            let _ = writeln!(text, "memory: tier 0 {after:x?}, tier 1 {now:x?}");
        }
    }
    text
}

/// What the guest can see of it.
fn comparable(fpu: &FpuState) -> ([u8; 512], [[u8; 64]; 32], [u64; 8]) {
    (fpu.fxsave(), fpu.zmm, fpu.opmask)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn end() -> End {
        let fpu = Box::new(FpuState::at_reset());
        End { arch: Arch::power_on(), fpu: Some(fpu), stop: None }
    }

    #[test]
    fn what_is_the_same_needs_no_words() {
        assert_eq!(differences(&end(), &end(), &[]), "");
    }

    #[test]
    fn what_differs_is_named() {
        let mut other = end();
        other.arch.slots[3] ^= 0x10;
        assert!(differences(&end(), &other, &[]).contains("register 3: tier 0 0x0, tier 1 0x10"));
        let mut other = end();
        other.arch.rflags ^= 1;
        assert!(differences(&end(), &other, &[]).contains("RFLAGS: tier 0 0x2, tier 1 0x3"));
        let mut other = end();
        other.fpu.as_mut().unwrap().zmm[7][3] = 1;
        assert!(differences(&end(), &other, &[]).starts_with("vector or x87 registers"));
        let other = End { stop: Some(Stop::Shutdown), ..end() };
        assert!(differences(&end(), &other, &[]).starts_with("the end: tier 0 None"));
    }
}
