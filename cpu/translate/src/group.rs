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

use crate::assemble::{Hole, R10, R11, RSP};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::{Item, Kind};
use crate::emit::{FlagState, GUEST_RSP, HostAddress, Tail};
use crate::frame::{GROUP_SLOTS, Place, group_slot, place};
use crate::instruction::{fixed_address, page_offset};
use crate::plan::Plan;

/// Bytes that a group may span: the longer it is, the more often it crosses the end of a page.
const SPAN: i64 = 1024;
/// Bytes of a stack slot.
const SLOT: i64 = 8;
/// RSP and RBP as guest registers.
const STACK: usize = 4;
const BASE: usize = 5;
/// `jne`
const NOT_EQUAL: u8 = 5;

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
    len: usize,
    write: bool,
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
}

impl Values {
    fn new() -> Self {
        let values = std::array::from_fn(|root| Value { root: root as u32, offset: 0 });
        Values { values, roots: 16 }
    }

    fn forget(&mut self, number: usize) {
        self.values[number] = Value { root: self.roots, offset: 0 };
        self.roots += 1;
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
            Kind::Push => return self.add(STACK, -SLOT),
            Kind::Pop => {
                self.add(STACK, SLOT);
                return self.forget(instruction.op0_register().number());
            }
            Kind::Leave => {
                self.values[STACK] = self.values[BASE];
                self.add(STACK, SLOT);
                return self.forget(BASE);
            }
            Kind::Copied | Kind::Lea => {}
            _ => return self.forget_written(infos, instruction),
        }
        match (instruction.mnemonic(), wide(0)) {
            (Mnemonic::Mov, Some(to)) if wide(1).is_some() => {
                self.values[to] = self.values[instruction.op1_register().number()];
            }
            (Mnemonic::Add | Mnemonic::Sub, Some(to)) if is_immediate(instruction.op1_kind()) => {
                let value = instruction.immediate(1) as i64;
                let adds = instruction.mnemonic() == Mnemonic::Add;
                self.add(to, if adds { value } else { value.wrapping_neg() });
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
            _ => self.forget_written(infos, instruction),
        }
    }

    fn forget_written(&mut self, infos: &mut InstructionInfoFactory, instruction: &Instruction) {
        for used in infos.info(instruction).used_registers() {
            let read =
                matches!(used.access(), OpAccess::None | OpAccess::Read | OpAccess::CondRead);
            if !read && used.register().is_gpr() {
                self.forget(used.register().full_register().number());
            }
        }
    }
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
    item.has_memory() && !item.is_locked() && !noted && !has_high
}

/// Finds the groups of a block, and tells the items.
pub(crate) fn plan(infos: &mut InstructionInfoFactory, items: &mut [Item]) -> Vec<Group> {
    let mut groups = Vec::new();
    let mut start = 0;
    for end in 1..=items.len() {
        // Behind a callout nothing is known.
        if end == items.len() || items[end].kind == Kind::Callout {
            plan_stretch(infos, &mut items[start..end], &mut groups);
            start = end;
        }
    }
    groups
}

fn plan_stretch(infos: &mut InstructionInfoFactory, items: &mut [Item], groups: &mut Vec<Group>) {
    let accesses = |item: &&Item| {
        use Kind as K;
        let stack = matches!(item.kind, K::Push | K::Pop | K::Leave | K::Call | K::Return);
        stack || item.has_memory()
    };
    if items.iter().filter(accesses).nth(1).is_none() {
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
    for found in open.iter().filter(|open| open.members.len() > 1) {
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
        groups.push(Group { len, write: found.write });
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

impl BlockMaker {
    /// Before an instruction: it may need R11.
    pub(crate) fn make_room(&mut self, item: &Item) {
        if item.member.is_none() && !keeps_address(item) {
            self.put_away();
        }
    }

    /// Keeps the host's address of a group in the frame: R11 is needed.
    fn put_away(&mut self) {
        if let Some(group) = self.held.take()
            && !self.kept[group]
        {
            self.emitter.code.store(RSP, group_slot(group), R11);
            self.kept[group] = true;
        }
    }

    /// The host's address of a member's group into R11. Takes R10. Flags may go to the frame.
    fn hold(&mut self, item: &Item, member: Member) {
        if !member.first {
            if self.held != Some(member.group) {
                self.put_away();
                self.emitter.code.load(R11, RSP, group_slot(member.group));
                self.held = Some(member.group);
            }
            return;
        }
        self.put_away();
        let Group { len, write } = self.groups[member.group];
        match item.kind {
            Kind::Push => self.emitter.code.lea(R10, GUEST_RSP, None, -member.at - SLOT as i32),
            Kind::Pop => self.emitter.code.lea(R10, GUEST_RSP, None, -member.at),
            Kind::Leave => self.emitter.code.lea(R10, BASE as u8, None, -member.at),
            _ => {
                let mut first = item.instruction;
                let disp = first.memory_displacement64().wrapping_sub(member.at as u64);
                first.set_memory_displacement64(disp);
                if let Some(address) = fixed_address(&first, len) {
                    let from = self.emitter.translate_known(address, write);
                    self.emitter.code.lea(R11, R11, None, page_offset(address));
                    return self.begin(from, member);
                }
                self.emitter.address(&item.op, &first);
            }
        }
        let from = self.emitter.translate(len, write);
        self.emitter.code.add(R11, R10);
        self.begin(from, member);
    }

    /// The group's address is in R11 now, unless its look failed.
    fn begin(&mut self, from: Hole, member: Member) {
        self.leave_to_twin(from);
        self.held = Some(member.group);
        self.kept[member.group] = false;
    }

    /// After a member.
    fn release(&mut self, member: Member) {
        if member.last {
            self.held = self.held.filter(|&held| held != member.group);
        }
    }

    fn leave_to_twin(&mut self, from: Hole) {
        let (rip, rest, loaded) = self.present;
        self.emitter.tails.push(Tail::Twin { from, rip, rest, loaded });
    }

    /// As [`Self::copied`], of a member.
    pub(crate) fn copied_member(&mut self, item: &Item, member: Member, site: SiteAddress) {
        self.hold(item, member);
        if let Some(used) = item.used.filter(|used| used.alignment > 1) {
            self.emitter.save_flags();
            self.emitter.state = FlagState::FRAME;
            self.emitter.code.lea(R10, R11, None, member.at);
            self.emitter.code.test_low_byte(R10, used.alignment - 1);
            let from = self.emitter.code.jump_if(NOT_EQUAL);
            self.leave_to_twin(from);
        }
        let (start, before) = (self.emitter.code.position(), self.emitter.state);
        if !self.encode_member(item, member) {
            self.emitter.code.truncate(start);
            self.emitter.state = before;
            self.put_away();
            self.emitter.call_out(site);
        }
        self.release(member);
    }

    /// False: there is no such encoding.
    fn encode_member(&mut self, item: &Item, member: Member) -> bool {
        let Some(plan) = Plan::of(&mut self.infos, item) else { return false };
        let at = HostAddress::At(member.at);
        let Some(instruction) = plan.rewrite(item, Some(at)) else { return false };
        self.flags_before(item.flags);
        self.emitter.load_spills(&plan);
        if !self.encode(&instruction) {
            return false;
        }
        self.flags_behind(item.flags);
        self.emitter.store_spills(&plan);
        true
    }

    pub(crate) fn push_member(&mut self, item: &Item, member: Member) {
        self.hold(item, member);
        let instruction = &item.instruction;
        if instruction.op0_kind() == OpKind::Register {
            let value = self.emitter.register(instruction.op0_register().number() as u8, R10);
            self.emitter.code.store(R11, member.at, value);
        } else {
            let value = instruction.immediate(0) as i64 as i32;
            self.emitter.code.store_value_at(R11, member.at, value);
        }
        self.emitter.move_stack(-(SLOT as i32));
        self.release(member);
    }

    pub(crate) fn pop_member(&mut self, item: &Item, member: Member) {
        self.hold(item, member);
        match place(item.instruction.op0_register().number() as u8) {
            Place::Host(host) => self.emitter.code.load(host, R11, member.at),
            Place::Frame(at) => {
                self.emitter.code.load(R10, R11, member.at);
                self.emitter.code.store(RSP, at, R10);
            }
        }
        self.emitter.move_stack(SLOT as i32);
        self.release(member);
    }

    /// The address that is returned to, into R10, and the flags into the frame.
    pub(crate) fn return_member(&mut self, item: &Item, member: Member) {
        self.hold(item, member);
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        self.emitter.code.load(R10, R11, member.at);
        self.release(member);
    }

    /// Pushes the address behind a call.
    pub(crate) fn call_member(&mut self, item: &Item, member: Member, next: u64) {
        self.hold(item, member);
        match i32::try_from(next as i64) {
            Ok(value) => self.emitter.code.store_value_at(R11, member.at, value),
            Err(_) => {
                self.emitter.code.mov_value(R10, next);
                self.emitter.code.store(R11, member.at, R10);
            }
        }
        self.emitter.move_stack(-(SLOT as i32));
        self.release(member);
    }

    pub(crate) fn leave_member(&mut self, item: &Item, member: Member) {
        self.hold(item, member);
        self.emitter.code.lea(GUEST_RSP, BASE as u8, None, SLOT as i32);
        self.emitter.code.load(BASE as u8, R11, member.at);
        self.release(member);
    }
}

/// Neither R11 nor what it points to matters to it.
fn keeps_address(item: &Item) -> bool {
    let spilled = |register: Register| {
        register.is_gpr()
            && matches!(place(register.full_register().number() as u8), Place::Frame(_))
    };
    let instruction = &item.instruction;
    match item.kind {
        Kind::Nothing => true,
        Kind::Lea => {
            let segment = instruction.memory_segment();
            let plain = !matches!(segment, Register::FS | Register::GS);
            plain && !spilled(instruction.memory_index())
        }
        Kind::Copied if item.used.is_some_and(|used| used.noted) => false,
        Kind::Copied => {
            let operands = 0..instruction.op_count();
            let registers = operands.filter(|&n| {
                instruction.op_kind(n) == OpKind::Register && spilled(instruction.op_register(n))
            });
            !item.has_memory() && registers.count() < 2
        }
        _ => false,
    }
}
