//! Code of accesses that share a look, see [`crate::group`].

use iced_x86::{OpKind, Register};

use crate::assemble::{NOT_EQUAL, R10, R11, RSP};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::{Item, Kind};
use crate::emit::{GUEST_RSP, HostAddress, Missed, Way};
use crate::flags::FlagState;
use crate::frame::{Place, group_slot, page_slot, place};
use crate::group::{BASE, Group, Habit, Member, SLOT};
use crate::instruction::{PUSHED, fixed_address, page_offset, plain_base};
use crate::plan::Plan;
use crate::repeat::Turn;

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

    /// The host's address of a member's group into R11, or apart in R11 and R10. Takes R10. Flags may
    /// go to the frame.
    fn hold(&mut self, item: &Item, member: Member, apart: bool) {
        let Group { len, write, habit } = self.groups[member.group];
        let again = self.turn.is_again();
        if !member.first || again && habit == Habit::Stays {
            if self.held != Some(member.group) {
                self.put_away();
                self.emitter.code.load(R11, RSP, group_slot(member.group));
                self.held = Some(member.group);
            }
            return;
        }
        self.put_away();
        match (from_stack(item, member), item.kind) {
            (Some(offset), _) if !apart && habit != Habit::Walks => {
                let missed = self.emitter.look_on_stack(offset, len, write);
                self.leave_to_twin(missed);
                self.emitter.code.lea(R11, R11, Some((GUEST_RSP, 0)), offset);
                return self.begin(member);
            }
            (Some(offset), _) => self.emitter.code.lea(R10, GUEST_RSP, None, offset),
            (None, Kind::Leave) => self.emitter.code.lea(R10, BASE as u8, None, -member.at),
            (None, _) => {
                let mut first = item.instruction;
                let disp = first.memory_displacement64().wrapping_sub(member.at as u64);
                first.set_memory_displacement64(disp);
                if let Some(address) = fixed_address(&first, len) {
                    let missed = self.emitter.translate_known(address, write);
                    self.emitter.code.lea(R11, R11, None, page_offset(address));
                    self.leave_to_twin(missed);
                    return self.begin(member);
                }
                self.emitter.address(&item.op, &first);
            }
        }
        let aligned = apart && needs_alignment(item);
        self.look_up(member, len, write, aligned);
        if !apart {
            self.emitter.code.add(R11, R10);
        }
        self.begin(member);
    }

    /// The page of the address in R10 into R11, and the offset there into R10.
    fn look_up(&mut self, member: Member, len: usize, write: bool, aligned: bool) {
        self.emitter.give_up_flags();
        let group = self.groups[member.group];
        let slot = page_slot(member.group);
        if group.habit == Habit::Walks && self.turn.is_again() {
            let (from, back) = self.emitter.look_in_page(slot, len, aligned);
            let present = self.present;
            self.emitter.tail(from, Way::OtherPage { back, slot, group, aligned, present });
            return;
        }
        let keeps = group.habit == Habit::Walks && self.turn == Turn::First;
        if keeps {
            self.emitter.keep_address(slot);
        }
        let from = self.emitter.look(len, write, aligned);
        self.leave_to_twin(self.emitter.missed(from));
        if keeps {
            self.emitter.keep_page(slot);
        }
    }

    /// The group's address is in R11 now.
    fn begin(&mut self, member: Member) {
        let group = member.group;
        self.held = Some(group);
        self.kept[group] = false;
        if self.turn == Turn::First && self.groups[group].habit == Habit::Stays {
            self.emitter.code.store(RSP, group_slot(group), R11);
            self.kept[group] = true;
        }
    }

    /// After a member.
    fn release(&mut self, member: Member) {
        if member.last {
            self.held = self.held.filter(|&held| held != member.group);
        }
    }

    fn leave_to_twin(&mut self, missed: Missed) {
        self.emitter.leave_missed(missed, Way::Twin(self.present));
    }

    /// As [`Self::copied`], of a member.
    pub(crate) fn copied_member(&mut self, item: &Item, member: Member, site: SiteAddress) {
        let apart = self.may_be_apart(item, member);
        self.hold(item, member, apart);
        if let Some(used) = item.used.filter(|used| used.alignment > 1 && !apart) {
            self.emitter.give_up_flags_through(R10);
            self.emitter.code.lea(R10, R11, None, member.at);
            self.emitter.code.test_low_byte(R10, used.alignment - 1);
            let from = self.emitter.code.jump_if(NOT_EQUAL);
            self.leave_to_twin(self.emitter.missed(from));
        }
        let (start, before) = (self.emitter.code.position(), self.emitter.state);
        let at = if apart { HostAddress::Pair } else { HostAddress::At(member.at) };
        if !self.encode_member(item, at) {
            self.emitter.code.truncate(start);
            self.emitter.state = before;
            self.put_away();
            self.emitter.call_out(site);
        }
        self.release(member);
    }

    /// The address of its group is needed once, and R10 is free.
    fn may_be_apart(&mut self, item: &Item, member: Member) -> bool {
        let alone = member.first && member.last;
        let stays = self.groups[member.group].habit == Habit::Stays;
        let len = item.instruction.memory_size().size();
        let aligned =
            item.used.is_none_or(|used| used.alignment <= 1 || usize::from(used.alignment) == len);
        let free = Plan::of(&mut self.infos, item).is_some_and(|plan| plan.spills.is_empty());
        alone && !stays && aligned && free && !item.needs_flags()
    }

    /// False: there is no such encoding.
    fn encode_member(&mut self, item: &Item, at: HostAddress) -> bool {
        let Some(plan) = Plan::of(&mut self.infos, item) else { return false };
        let Some(instruction) = plan.rewrite(item, Some(at)) else { return false };
        self.flags_before(item);
        self.emitter.load_spills(&plan);
        if !self.encode(&instruction) {
            return false;
        }
        self.flags_behind(item.flags);
        self.emitter.store_spills(&plan);
        true
    }

    pub(crate) fn push_member(&mut self, item: &Item, member: Member) {
        self.hold(item, member, false);
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
        self.hold(item, member, false);
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
        self.hold(item, member, false);
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        self.emitter.code.load(R10, R11, member.at);
        self.release(member);
    }

    /// Pushes the address behind a call.
    pub(crate) fn call_member(&mut self, item: &Item, member: Member, next: u64) {
        self.hold(item, member, false);
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
        self.hold(item, member, false);
        self.emitter.code.lea(GUEST_RSP, BASE as u8, None, SLOT as i32);
        self.emitter.code.load(BASE as u8, R11, member.at);
        self.release(member);
    }
}

/// How far a group begins from guest RSP, if it is on the stack.
fn from_stack(item: &Item, member: Member) -> Option<i32> {
    let instruction = &item.instruction;
    let offset = match item.kind {
        Kind::Push => PUSHED,
        Kind::Pop => 0,
        Kind::Copied if plain_base(instruction) == Some(GUEST_RSP) => {
            instruction.memory_displacement64() as i32
        }
        _ => return None,
    };
    Some(offset - member.at)
}

fn needs_alignment(item: &Item) -> bool {
    item.used.is_some_and(|used| used.alignment > 1)
}

/// Neither R11 nor what it points to matters to it.
fn keeps_address(item: &Item) -> bool {
    let spilled = |register: Register| {
        register.is_gpr()
            && matches!(place(register.full_register().number() as u8), Place::Frame(_))
    };
    let instruction = &item.instruction;
    match item.kind {
        Kind::Nothing | Kind::JumpIf => true,
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
