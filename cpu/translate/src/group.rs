//! Accesses of a block that share one look into the TLB.
//!
//! Accesses through the same registers, which change by constants only between them (RSP by pushes and
//! pops above all), lie at known distances from each other. Before the first of them one look proves
//! that all their bytes are in a page that the TLB has, for stores if any of them stores; from there on the
//! host's address of the first byte is in R11, or in the frame while R11 is needed otherwise. Where the
//! look fails, nothing of the first instruction has happened: the rest of the block is executed by its
//! twin, a block without groups.
//!
//! Law: what a look has proved holds until the end of its block, or the first callout by design in
//! it. Entries of the TLB, and their rights, are taken away outside of translated code, which looks
//! at the kick word between blocks; an instruction that tier 0 executes because its own look failed
//! is an access like others, and comes back only if nothing was flushed. A page that is marked as
//! code by another processor meanwhile counts as unmarked for it until this one has looked at the
//! kick word.

use iced_x86::{Instruction, InstructionInfoFactory, Mnemonic, OpAccess, OpKind, Register};

use crate::effects::{Item, Kind};
use crate::frame::GROUP_SLOTS;
use crate::system::System;

/// Bytes that a group may span: the longer it is, the more often it crosses the end of a page.
const SPAN: i64 = 1024;
/// Bytes of a stack slot.
pub(crate) const SLOT: i64 = 8;
/// RSP and RBP as guest registers.
const STACK: usize = 4;
pub(crate) const BASE: usize = 5;

/// An access that is part of a group.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Member {
    pub group: usize,
    /// Distance from the group's first byte.
    pub at: i32,
    /// The first one.
    pub first: bool,
    /// The last one.
    pub last: bool,
}

/// Accesses that share a look.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Group {
    pub len: usize,
    pub write: bool,
    pub habit: Habit,
}

/// Where a group is in the next turn of a loop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Habit {
    /// Anywhere.
    None,
    /// Where it was.
    Stays,
    /// Near: often in the same page.
    Walks,
}

/// What a register holds: what a number stands for, and a constant.
#[derive(Clone, Copy)]
struct Value {
    root: u32,
    offset: i64,
}

/// What all addresses of a group have in common: base, index and scale, segment.
type Common = (Option<u32>, Option<(u32, u32)>, Register);

struct Access {
    common: Common,
    /// The rest of the address.
    offset: i64,
    len: i64,
    write: bool,
}

struct Open {
    common: Common,
    first: i64,
    end: i64,
    write: bool,
    /// Items, and their offsets.
    members: Vec<(usize, i64)>,
}

/// What registers hold, as far as it is known.
struct Values {
    values: [Value; 16],
    roots: u32,
    /// Registers that were loaded from memory.
    loaded: [bool; 16],
    /// By number above those of registers: it is the sum of what registers held that were not loaded.
    near: Vec<bool>,
}

impl Values {
    fn new() -> Self {
        let values = std::array::from_fn(|root| Value { root: root as u32, offset: 0 });
        Values { values, roots: 16, loaded: [false; 16], near: Vec::new() }
    }

    fn forget(&mut self, number: usize) {
        self.replace(number, false);
    }

    fn replace(&mut self, number: usize, near: bool) {
        self.values[number] = Value { root: self.roots, offset: 0 };
        self.roots += 1;
        self.near.push(near);
    }

    /// It is near where it was a turn before, if what was followed is a loop.
    fn is_near(&self, register: Register) -> bool {
        if !register.is_gpr64() || self.loaded[register.number()] {
            return false;
        }
        let derived = (self.values[register.number()].root as usize).checked_sub(16);
        derived.is_none_or(|derived| self.near[derived])
    }

    fn add(&mut self, number: usize, value: i64) {
        let offset = &mut self.values[number].offset;
        *offset = offset.wrapping_add(value);
    }

    fn get(&self, register: Register) -> Option<Value> {
        register.is_gpr64().then(|| self.values[register.number()])
    }

    fn access(&self, item: &Item) -> Option<Access> {
        let at = |number: usize, offset: i64, write| {
            let value = self.values[number];
            let common = (Some(value.root), None, Register::None);
            Access { common, offset: value.offset.wrapping_add(offset), len: SLOT, write }
        };
        let instruction = &item.instruction;
        if item.shadowed {
            // A twin would begin in the shadow.
            return None;
        }
        match item.kind {
            Kind::Push if instruction.op0_kind() != OpKind::Memory => Some(at(STACK, -SLOT, true)),
            Kind::Pop if instruction.op0_register() != Register::RSP => Some(at(STACK, 0, false)),
            Kind::Leave => Some(at(BASE, 0, false)),
            Kind::Return => Some(at(STACK, 0, false)),
            Kind::Call if instruction.op0_kind() == OpKind::NearBranch64 => {
                Some(at(STACK, -SLOT, true))
            }
            Kind::Copied if is_member(item) => self.operand(item),
            _ => None,
        }
    }

    fn operand(&self, item: &Item) -> Option<Access> {
        let instruction = &item.instruction;
        let mut offset = instruction.memory_displacement64() as i64;
        let (mut base, mut index) = (None, None);
        if !instruction.is_ip_rel_memory_operand() {
            if instruction.memory_base() != Register::None {
                let value = self.get(instruction.memory_base())?;
                offset = offset.wrapping_add(value.offset);
                base = Some(value.root);
            }
            if instruction.memory_index() != Register::None {
                let value = self.get(instruction.memory_index())?;
                let scale = instruction.memory_index_scale();
                offset = offset.wrapping_add(value.offset.wrapping_mul(scale.into()));
                index = Some((value.root, scale));
            }
        }
        let segment = match instruction.memory_segment() {
            segment @ (Register::FS | Register::GS) => segment,
            _ => Register::None,
        };
        let len = instruction.memory_size().size() as i64;
        // Where a group begins there is an address, too.
        let near = |by| i32::try_from(instruction.memory_displacement64() as i64 + by).is_ok();
        let fits = base.is_none() && index.is_none() || near(SPAN) && near(-SPAN);
        (len > 0 && fits).then_some(Access {
            common: (base, index, segment),
            offset,
            len,
            write: item.writes_memory,
        })
    }

    /// After an instruction.
    fn follow(&mut self, infos: &mut InstructionInfoFactory, item: &Item) {
        let instruction = &item.instruction;
        let wide = |operand| {
            let register = instruction.op_register(operand);
            let is = instruction.op_kind(operand) == OpKind::Register && register.is_gpr64();
            is.then(|| register.number())
        };
        match item.kind {
            Kind::Nothing => return,
            Kind::Push | Kind::System(System::Pushf) => return self.add(STACK, -SLOT),
            Kind::System(System::Popf) => return self.add(STACK, SLOT),
            Kind::Pop => {
                self.add(STACK, SLOT);
                let to = instruction.op0_register().number();
                self.loaded[to] = true;
                return self.forget(to);
            }
            Kind::Leave => {
                self.values[STACK] = self.values[BASE];
                self.add(STACK, SLOT);
                self.loaded[BASE] = true;
                return self.forget(BASE);
            }
            Kind::Copied | Kind::Lea => {}
            _ => return self.forget_written(infos, instruction),
        }
        match (instruction.mnemonic(), wide(0)) {
            (Mnemonic::Mov, Some(to)) if wide(1).is_some() => {
                let from = instruction.op1_register().number();
                self.values[to] = self.values[from];
                self.loaded[to] |= self.loaded[from];
            }
            (Mnemonic::Add | Mnemonic::Sub, Some(to)) if is_immediate(instruction.op1_kind()) => {
                let value = instruction.immediate(1) as i64;
                let adds = instruction.mnemonic() == Mnemonic::Add;
                self.add(to, if adds { value } else { value.wrapping_neg() });
            }
            (Mnemonic::Add | Mnemonic::Sub, Some(to)) if wide(1).is_some() => {
                let by = instruction.op1_register();
                let near = self.is_near(instruction.op0_register()) && self.is_near(by);
                self.loaded[to] |= self.loaded[by.number()];
                self.replace(to, near);
            }
            (Mnemonic::Inc, Some(to)) => self.add(to, 1),
            (Mnemonic::Dec, Some(to)) => self.add(to, -1),
            (Mnemonic::Lea, Some(to)) if instruction.memory_index() == Register::None => {
                match self.get(instruction.memory_base()) {
                    Some(value) => {
                        self.values[to] = value;
                        self.add(to, instruction.memory_displacement64() as i64);
                    }
                    None => self.forget(to),
                }
            }
            (Mnemonic::Lea, Some(to)) if instruction.memory_base() != Register::None => {
                let near = self.is_near(instruction.memory_base())
                    && self.is_near(instruction.memory_index());
                self.replace(to, near);
            }
            _ => self.forget_written(infos, instruction),
        }
    }

    /// What a group does that has this in common, if what was followed is a loop.
    fn habit(&self, (base, index, _): Common) -> Habit {
        let roots = [base, index.map(|(root, _)| root)];
        let mut habit = Habit::Stays;
        for root in roots.into_iter().flatten() {
            let Some(&Value { root: now, offset }) = self.values.get(root as usize) else {
                if !self.near[root as usize - 16] {
                    return Habit::None;
                }
                habit = Habit::Walks;
                continue;
            };
            match self.loaded[root as usize] {
                _ if now == root && offset == 0 => {}
                true => return Habit::None,
                false => habit = Habit::Walks,
            }
        }
        habit
    }

    fn forget_written(&mut self, infos: &mut InstructionInfoFactory, instruction: &Instruction) {
        for used in infos.info(instruction).used_registers() {
            let read =
                matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
            if !read && used.register().is_gpr() {
                let number = used.register().full_register().number();
                self.loaded[number] |= loads(instruction);
                self.forget(number);
            }
        }
    }
}

/// What it loads may lead anywhere.
fn loads(instruction: &Instruction) -> bool {
    let operands = 0..instruction.op_count();
    instruction.mnemonic() == Mnemonic::Mov
        && operands.map(|n| instruction.op_kind(n)).any(|kind| kind == OpKind::Memory)
}

fn is_immediate(kind: OpKind) -> bool {
    matches!(kind, OpKind::Immediate8to64 | OpKind::Immediate32to64)
}

/// Its access to memory needs no check of its own but that of its alignment, and can be encoded
/// with another address.
fn is_member(item: &Item) -> bool {
    let noted = item.used.is_some_and(|used| used.noted);
    let high = |operand| {
        let register = item.instruction.op_register(operand);
        matches!(register, Register::AH | Register::BH | Register::CH | Register::DH)
    };
    let instruction = &item.instruction;
    let has_high = (0..instruction.op_count())
        .any(|operand| instruction.op_kind(operand) == OpKind::Register && high(operand));
    let pair = instruction.mnemonic() == Mnemonic::Cmpxchg16b;
    item.has_memory() && !item.is_locked() && !noted && !has_high && !pair
}

/// Finds the groups of a block, and tells the items. In a loop each access is in one, if it can be.
pub(crate) fn plan(
    infos: &mut InstructionInfoFactory,
    items: &mut [Item],
    repeats: bool,
) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut start = 0;
    for end in 1..=items.len() {
        if end == items.len() || ends_groups(items[end].kind) {
            plan_stretch(infos, &mut items[start..end], repeats, &mut groups);
            start = end;
        }
    }
    groups
}

/// Nothing that was looked at before is known behind it.
fn ends_groups(kind: Kind) -> bool {
    match kind {
        Kind::Callout => true,
        Kind::System(system) => system.moves_addresses(),
        _ => false,
    }
}

fn plan_stretch(
    infos: &mut InstructionInfoFactory,
    items: &mut [Item],
    repeats: bool,
    groups: &mut Vec<Group>,
) {
    let accesses = |item: &&Item| {
        use Kind as K;
        let stack = matches!(item.kind, K::Push | K::Pop | K::Leave | K::Call | K::Return);
        stack || item.has_memory()
    };
    let least = if repeats { 1 } else { 2 };
    if items.iter().filter(accesses).count() < least {
        return;
    }
    let mut values = Values::new();
    let mut open: Vec<Open> = Vec::new();
    for (number, item) in items.iter().enumerate() {
        if let Some(access) = values.access(item) {
            join(&mut open, number, &access);
        }
        values.follow(infos, item);
    }
    for found in open.iter().filter(|open| open.members.len() >= least) {
        if groups.len() == GROUP_SLOTS {
            return;
        }
        let last = found.members.len() - 1;
        for (order, &(item, offset)) in found.members.iter().enumerate() {
            items[item].member = Some(Member {
                group: groups.len(),
                at: offset.wrapping_sub(found.first) as i32,
                first: order == 0,
                last: order == last,
            });
        }
        let len = found.end.wrapping_sub(found.first) as usize;
        let habit = if repeats { values.habit(found.common) } else { Habit::None };
        groups.push(Group { len, write: found.write, habit });
    }
}

/// Puts an access into a group that it fits into, or a new one.
fn join(open: &mut Vec<Open>, number: usize, access: &Access) {
    let &Access { common, offset, len, write } = access;
    for group in open.iter_mut().rev().filter(|group| group.common == common) {
        // Distances from the group's first byte: addresses may wrap, groups are short.
        let from = offset.wrapping_sub(group.first);
        let known = group.end.wrapping_sub(group.first);
        if !(-SPAN..=SPAN).contains(&from) {
            continue;
        }
        let (first, end) = (from.min(0), known.max(from + len));
        if end - first <= SPAN {
            group.end = group.first.wrapping_add(end);
            group.first = group.first.wrapping_add(first);
            group.write |= write;
            group.members.push((number, offset));
            return;
        }
    }
    let end = offset.wrapping_add(len);
    open.push(Open { common, first: offset, end, write, members: vec![(number, offset)] });
}
