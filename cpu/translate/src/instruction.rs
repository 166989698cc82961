//! Host code of one instruction.

use cpu_mem::PAGE_SIZE;
use iced_x86::{Code, Instruction, OpKind, Register};

use crate::assemble::{Hole, R10, R11};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::{Flags, Item};
use crate::emit::{GUEST_RSP, HostAddress, Missed, Present, Way};
use crate::flags::FlagState;
use crate::frame::{Place, place};
use crate::plan::Plan;
use crate::repeat::Turn;

/// Guest RBP.
const GUEST_RBP: u8 = 5;
/// Bytes of a stack slot.
const SLOT: usize = 8;
/// Where a push stores, from RSP before it.
pub(crate) const PUSHED: i32 = -(SLOT as i32);

impl BlockMaker {
    /// Looks up the page of an access at the address in R10. The slow way is made when the
    /// instruction is complete.
    pub(crate) fn access(&mut self, len: usize, write: bool) -> Missed {
        self.emitter.translate(len, write, false)
    }

    /// The slow way of an instruction that is complete here.
    pub(crate) fn slow(&mut self, missed: Missed, site: SiteAddress, last: bool) {
        let (back, behind) = (self.emitter.code.position(), self.emitter.state);
        self.emitter.needs_site = true;
        self.emitter.leave_missed(missed, Way::Slow { site, back, behind, last });
    }

    pub(crate) fn copied(&mut self, item: &Item, site: SiteAddress, raw: &[u8]) {
        if let Some(member) = item.member {
            self.copied_member(item, member, site);
            return;
        }
        let Some(plan) = Plan::of(&mut self.infos, item) else {
            self.emitter.call_out(site);
            return;
        };
        let mut from = None;
        let mut split = None;
        let known = known_address(item);
        let memory = item.has_memory().then(|| {
            if let Some(address) = known {
                from = Some(self.emitter.translate_known(address, item.writes_memory));
                return HostAddress::At(page_offset(address));
            }
            self.emitter.offset(&item.op, &item.instruction);
            if item.used.is_some_and(|used| used.noted) {
                self.emitter.stash();
            }
            self.emitter.segment(&item.instruction);
            let len = item.instruction.memory_size().size();
            let pair = item.instruction.code() == Code::Cmpxchg16b_m128;
            let alignment = item.used.map_or(if pair { 16 } else { 1 }, |used| used.alignment);
            let whole = alignment > 1 && usize::from(alignment) == len;
            if item.used.is_none() && item.is_locked() && !pair {
                split = self.emitter.check_line(len);
            } else if !whole {
                split = self.emitter.check_alignment(alignment);
            }
            if let Some(register) = plain_base(&item.instruction) {
                from = Some(if register == GUEST_RSP && !whole {
                    self.emitter.translate_stack(len, item.writes_memory)
                } else {
                    self.emitter.translate_distance(len, item.writes_memory, whole)
                });
                return HostAddress::Register(register);
            }
            from = Some(self.emitter.translate(len, item.writes_memory, whole));
            if plan.spills.is_empty() && !item.needs_flags() {
                HostAddress::Pair
            } else {
                self.emitter.code.add(R11, R10);
                HostAddress::Single
            }
        });
        let rewritten = plan.rewrite(item, memory);
        let (start, before) = (self.emitter.code.position(), self.emitter.state);
        self.flags_before(item);
        self.emitter.load_spills(&plan);
        match rewritten {
            None => self.emitter.code.bytes(raw),
            Some(instruction) => {
                if !self.encode(&instruction) {
                    self.emitter.code.truncate(start);
                    self.emitter.state = before;
                    self.give_up(from.into_iter().chain(split), site);
                    return;
                }
            }
        }
        self.flags_behind(item.flags);
        self.emitter.store_spills(&plan);
        self.note(item, site);
        for from in from.into_iter().chain(split) {
            self.slow(from, site, item.last);
        }
    }

    /// Encodes an instruction; false if it has AH to BH beside one of our registers.
    pub(crate) fn encode(&mut self, instruction: &Instruction) -> bool {
        let encoded = self.encoder.encode(instruction, 0).is_ok();
        let code = self.encoder.take_buffer();
        if encoded {
            self.emitter.code.bytes(&code);
        }
        self.encoder.set_buffer(code_buffer(code));
        encoded
    }

    /// Has tier 0 execute an instruction that cannot be encoded.
    fn give_up(&mut self, holes: impl Iterator<Item = Missed>, site: SiteAddress) {
        self.emitter.call_out(site);
        for from in holes {
            self.slow(from, site, false);
        }
    }

    pub(crate) fn flags_before(&mut self, item: &Item) {
        match item.flags {
            _ if item.unseen => {}
            Flags::Used { .. } => self.emitter.restore_flags(),
            Flags::Carry { .. } => self.emitter.restore_carry(),
            Flags::Ignored | Flags::Replaced => {}
        }
    }

    pub(crate) fn flags_behind(&mut self, flags: Flags) {
        match flags {
            Flags::Used { written: true } | Flags::Carry { written: true } | Flags::Replaced => {
                self.emitter.state = FlagState::HOST;
            }
            _ => {}
        }
    }

    /// What the cache has of a line does not matter; whether it may be loaded from does.
    pub(crate) fn look(&mut self, item: &Item, site: SiteAddress) {
        self.emitter.address(&item.op, &item.instruction);
        let from = self.access(1, false);
        self.slow(from, site, item.last);
    }

    /// Its segment does not matter.
    pub(crate) fn lea(&mut self, item: &Item) {
        let instruction = &item.instruction;
        let register = instruction.op0_register();
        let number = register.number() as u8;
        match place(number) {
            Place::Host(host) if register.size() == 8 => {
                self.emitter.offset_into(host, &item.op, instruction);
            }
            Place::Host(host) => {
                self.emitter.offset(&item.op, instruction);
                self.emitter.code.mov_low(host, R10);
            }
            Place::Frame(_) => {
                self.emitter.offset(&item.op, instruction);
                if register.size() == 4 {
                    self.emitter.code.mov_low(R10, R10);
                }
                self.emitter.set_register(number, R10);
            }
        }
    }

    pub(crate) fn push(&mut self, item: &Item, site: SiteAddress) {
        if let Some(member) = item.member {
            self.push_member(item, member);
            return;
        }
        let instruction = &item.instruction;
        if instruction.op0_kind() == OpKind::Memory {
            self.emitter.address(&item.op, instruction);
            let from = self.access(SLOT, false);
            self.slow(from, site, false);
            let slow_load = self.emitter.tails.len() - 1;
            self.emitter.code.load_indexed(R10, R11, R10, 0);
            self.emitter.stash();
            let from = self.push_address();
            self.emitter.unstash();
            self.emitter.code.store_indexed(R11, GUEST_RSP, PUSHED, R10);
            self.emitter.move_stack(PUSHED);
            self.slow(from, site, false);
            self.emitter.come_back_here(slow_load);
            return;
        }
        let from = self.push_address();
        match instruction.op0_kind() {
            OpKind::Register => {
                let number = instruction.op0_register().number() as u8;
                let value = self.emitter.register(number, R10);
                self.emitter.code.store_indexed(R11, GUEST_RSP, PUSHED, value);
            }
            _ => {
                let value = instruction.immediate(0) as i64 as i32;
                self.emitter.code.store_value(R11, GUEST_RSP, PUSHED, value);
            }
        }
        self.emitter.move_stack(PUSHED);
        self.slow(from, site, false);
    }

    /// R11 is what has to be added to the address of the slot below the top of the stack.
    pub(crate) fn push_address(&mut self) -> Missed {
        self.emitter.look_on_stack(PUSHED, SLOT, true)
    }

    pub(crate) fn pop(&mut self, item: &Item, site: SiteAddress) {
        if let Some(member) = item.member {
            self.pop_member(item, member);
            return;
        }
        let number = item.instruction.op0_register().number() as u8;
        let from = self.emitter.look_on_stack(0, SLOT, false);
        let to = match place(number) {
            Place::Host(host) => host,
            Place::Frame(_) => R10,
        };
        self.emitter.code.load_indexed(to, R11, GUEST_RSP, 0);
        if to != GUEST_RSP {
            self.emitter.move_stack(SLOT as i32);
        }
        if to == R10 {
            self.emitter.set_register(number, R10);
        }
        self.slow(from, site, false);
    }

    pub(crate) fn leave(&mut self, item: &Item, site: SiteAddress) {
        if let Some(member) = item.member {
            self.leave_member(item, member);
            return;
        }
        self.emitter.code.mov(R10, GUEST_RBP);
        let from = self.access(SLOT, false);
        self.emitter.code.lea(GUEST_RSP, GUEST_RBP, None, SLOT as i32);
        self.emitter.code.load_indexed(GUEST_RBP, R11, R10, 0);
        self.slow(from, site, item.last);
    }

    /// DIV, where the quotient is sure to fit: the upper half is below the divisor, which is not zero
    /// then.
    pub(crate) fn divide(&mut self, item: &Item, site: SiteAddress) {
        let wide = item.instruction.code() == Code::Div_rm64;
        self.emitter.save_flags();
        let mut missing = None;
        let divisor = if item.has_memory() {
            self.emitter.address(&item.op, &item.instruction);
            missing = Some(self.access(if wide { SLOT } else { SLOT / 2 }, false));
            self.emitter.code.load_divisor(wide);
            R11
        } else {
            let number = item.instruction.op0_register().number() as u8;
            self.emitter.register(number, R11)
        };
        let from = self.emitter.compare_halves(wide, divisor);
        self.emitter.state = FlagState::FRAME;
        let too_large = self.emitter.missed(from);
        self.emitter.restore_flags();
        self.emitter.code.divide(wide, divisor);
        self.emitter.state = FlagState::HOST;
        for from in missing.into_iter().chain([too_large]) {
            self.slow(from, site, item.last);
        }
    }

    /// The target of an indirect branch into R10; the slow way, if it was in memory.
    pub(crate) fn indirect_target(&mut self, item: &Item) -> Option<Missed> {
        if let Some(address) = fixed_address(&item.instruction, SLOT) {
            let from = self.emitter.translate_known(address, false);
            self.emitter.code.load(R10, R11, page_offset(address));
            return Some(from);
        }
        if item.instruction.op0_kind() == OpKind::Memory {
            self.emitter.address(&item.op, &item.instruction);
            let from = self.access(SLOT, false);
            self.emitter.code.load_indexed(R10, R11, R10, 0);
            return Some(from);
        }
        let number = item.instruction.op0_register().number() as u8;
        let register = self.emitter.register(number, R10);
        self.emitter.code.mov(R10, register);
        None
    }

    pub(crate) fn call(&mut self, item: &Item, site: SiteAddress, next: u64) {
        let indirect = item.instruction.op0_kind() != OpKind::NearBranch64;
        if indirect {
            self.emitter.save_flags();
            self.emitter.state = FlagState::FRAME;
            if let Some(from) = self.indirect_target(item) {
                self.slow(from, site, true);
            }
            self.emitter.find_target(site);
        }
        if let Some(member) = item.member {
            self.call_member(item, member, next);
        } else {
            self.push_return(site, next);
        }
        if indirect {
            self.emitter.jump_to_target();
        } else {
            let target = item.instruction.near_branch64();
            self.go_to(target, target < next);
        }
    }

    /// Pushes the address behind a call.
    fn push_return(&mut self, site: SiteAddress, next: u64) {
        let from = self.push_address();
        match i32::try_from(next as i64) {
            Ok(value) => self.emitter.code.store_value(R11, GUEST_RSP, PUSHED, value),
            Err(_) => {
                self.emitter.code.mov_value(R10, next);
                self.emitter.code.store_indexed(R11, GUEST_RSP, PUSHED, R10);
            }
        }
        self.emitter.move_stack(PUSHED);
        self.slow(from, site, true);
    }

    pub(crate) fn ret(&mut self, item: &Item, site: SiteAddress) {
        let more = if item.instruction.op_count() > 0 { item.instruction.immediate(0) } else { 0 };
        if let Some(member) = item.member {
            self.return_member(item, member);
        } else {
            let from = self.emitter.look_on_stack(0, SLOT, false);
            self.emitter.code.load_indexed(R10, R11, GUEST_RSP, 0);
            self.slow(from, site, true);
        }
        self.emitter.jump_anywhere(site, SLOT as i32 + more as i32);
    }

    pub(crate) fn jump(&mut self, item: &Item, site: SiteAddress, at: u64) {
        if item.instruction.op0_kind() == OpKind::NearBranch64 {
            let target = item.instruction.near_branch64();
            self.go_to(target, target <= at);
            return;
        }
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        let from = self.indirect_target(item);
        if let Some(from) = from {
            self.slow(from, site, true);
        }
        self.emitter.jump_anywhere(site, 0);
    }

    pub(crate) fn jump_if(&mut self, item: &Item, at: u64, next: u64) {
        let condition = item.instruction.condition_code() as u8 - 1;
        let target = item.instruction.near_branch64();
        // jb and jae
        if matches!(condition, 2 | 3) {
            self.emitter.restore_carry();
        } else {
            self.emitter.restore_flags();
        }
        if target <= at && !self.emitter.polled {
            // A loop: the way back is in line.
            let from = self.emitter.code.jump_if(condition ^ 1);
            self.branch(from, next);
            match self.turn {
                Turn::Only => self.go_to(target, true),
                Turn::First | Turn::Again { .. } => self.turn(target),
            }
        } else {
            let from = self.emitter.code.jump_if(condition);
            self.branch(from, target);
            if item.last {
                self.go_to(next, false);
            }
        }
    }

    /// Has a branch lead to an address; nothing looks at the kick word on the way.
    fn branch(&mut self, from: Hole, target: u64) {
        let Present { rest, loaded, .. } = self.present;
        let way = if rest == 0 && target & !0xFFF == self.page {
            Way::Edge { target, loaded }
        } else {
            Way::Side { target, rest, loaded }
        };
        self.emitter.tail(from, way);
    }
}

/// The encoder's buffer, to be used again.
fn code_buffer(mut code: Vec<u8>) -> Vec<u8> {
    code.clear();
    code
}

/// The linear address of the memory operand, if it does not depend on registers and `len` bytes
/// there are in one page.
pub(crate) fn fixed_address(instruction: &Instruction, len: usize) -> Option<u64> {
    let flat = !matches!(instruction.memory_segment(), Register::FS | Register::GS);
    let is_memory = (0..instruction.op_count()).any(|n| instruction.op_kind(n) == OpKind::Memory);
    let free = instruction.is_ip_rel_memory_operand()
        || instruction.memory_base() == Register::None
            && instruction.memory_index() == Register::None;
    let address = instruction.memory_displacement64();
    let inside = page_offset(address) as usize + len <= PAGE_SIZE;
    (is_memory && flat && free && inside).then_some(address)
}

/// The register of the host that the linear address of the memory operand is a constant away from, if there is
/// one.
pub(crate) fn plain_base(instruction: &Instruction) -> Option<u8> {
    let flat = !matches!(instruction.memory_segment(), Register::FS | Register::GS);
    let base = instruction.memory_base();
    if !flat || !base.is_gpr64() || instruction.memory_index() != Register::None {
        return None;
    }
    match place(base.number() as u8) {
        Place::Host(host) => Some(host),
        Place::Frame(_) => None,
    }
}

/// As [`fixed_address`], of an instruction that has no other reason to look at its address.
fn known_address(item: &Item) -> Option<u64> {
    let len = item.instruction.memory_size().size();
    let address = fixed_address(&item.instruction, len)?;
    let aligned = |to: u64| to <= 1 || address.is_multiple_of(to);
    let plain = match &item.used {
        Some(used) => !used.noted && aligned(used.alignment.into()),
        None if len == 16 => aligned(16),
        None => !item.is_locked() || len > 0 && aligned(len as u64),
    };
    plain.then_some(address)
}

/// Of an address in its page.
pub(crate) fn page_offset(address: u64) -> i32 {
    (address % PAGE_SIZE as u64) as i32
}
