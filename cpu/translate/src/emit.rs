//! Host code for what lies between instructions: addresses, branches, and ways out.

use cpu_interp::op::Op;
use cpu_mmu::tlb_layout;
use iced_x86::{Instruction, Register};

use crate::again::Again;
use crate::assemble::{Assembler, Hole, NOT_BELOW, NOT_EQUAL, R10, R11, R14, R15, RDX, RSP};
use crate::callout::SiteAddress;
use crate::flags::FlagState;
use crate::frame::{
    CALLOUT, DOWN, EPOCH, FS_BASE, GS_BASE, JUMPS, KICK, LEAVE, LEAVE_LINKED, LEAVE_SAVING,
    LEAVE_STALE, LINK, Place, SCRATCH, place,
};
use crate::group::Group;
use crate::jump_cache::{self, HOST_OFFSET};
use crate::pages::INTERPRET;
use crate::plan::Plan;
use crate::registers::Registers;
use crate::stack::StackLook;

/// Guest RSP.
pub(crate) const GUEST_RSP: u8 = 9;
/// Bits of a page offset.
const PAGE_BITS: u32 = 12;

/// Code out of line, and where the flags are on the way to it.
pub(crate) struct Tail {
    pub from: Hole,
    pub state: FlagState,
    pub way: Way,
}

/// What code out of line does.
pub(crate) enum Way {
    /// Tier 0 executes an instruction whose page was not in the TLB, and the code goes on at `back` with the
    /// flags there.
    Slow { site: SiteAddress, back: usize, behind: FlagState, last: bool },
    /// The look of a group failed: the twin of the block goes on.
    Twin(Present),
    /// The page of a group is no longer that of the last turn: looks for the address, which was compared
    /// with it, and goes on at `back`, or in the twin.
    OtherPage { back: usize, slot: i32, group: Group, aligned: bool, present: Present },
    /// The page of the stack is no longer that of the last access there: looks for it, and goes on there, or
    /// on this way.
    OtherStackPage { look: StackLook, missed: Box<Way> },
    /// A branch that can be linked: goes to `target` in the same page, with that loaded.
    Edge { target: u64, loaded: Registers },
    /// A branch of a condition to `target`, with `rest` instructions of the block behind it.
    Side { target: u64, rest: u64, loaded: Registers },
    /// Looks for the address in R10 in the other entry than that in R11, and goes on at `back`; if it is
    /// not there either, tier 0 executes the instruction at the site.
    OtherJump { back: usize, site: SiteAddress },
    /// Likewise, with the table in R11 and the offset of the other entry; goes on where that leads.
    OtherFarJump { entry: i32 },
    /// Leaves with the target in R10 and the flags in the frame.
    Exit,
    /// Leaves for `target`.
    ExitFor { target: u64 },
    /// As [`Way::ExitFor`], with guest RCX in R10.
    ExitWithCount { target: u64 },
    /// Leaves at `rip` for tier 0 to execute what is there.
    Interpret { rip: u64 },
    /// Others want something before an instruction that was counted, with those behind it.
    ExitBefore(Present),
    /// As [`Way::Interpret`], with instructions that were counted behind that one.
    InterpretRest(Present),
    /// Leaves for an address whose page has to be compared.
    Stale { rip: u64 },
}

/// An instruction of a block.
#[derive(Clone, Copy)]
pub(crate) struct Present {
    /// Its linear address.
    pub rip: u64,
    /// Instructions behind it.
    pub rest: u64,
    /// What is loaded there.
    pub loaded: Registers,
}

/// Where tier 0 has to be asked, and where the flags are on the way.
#[derive(Clone, Copy)]
#[must_use]
pub(crate) struct Missed {
    pub from: Hole,
    pub state: FlagState,
    /// There may be another way before that.
    pub look: Option<StackLook>,
}

/// Where a byte of memory is; R10 and R11 are free after use.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum HostAddress {
    /// `[r11 + r10]`
    Pair,
    /// `[r11 + register + disp]`, with what the guest adds to this register of the host.
    Register(u8),
    /// `[r11]`
    Single,
    /// `[r11 + disp]`, and R11 is not free.
    At(i32),
}

/// What a block is made into.
pub(crate) struct Emitter {
    pub code: Assembler,
    pub state: FlagState,
    pub tails: Vec<Tail>,
    /// Something was made since it was last cleared that has the address of a site.
    pub needs_site: bool,
    /// What makes flags that are lost.
    pub again: Vec<Again>,
    /// Number of the one for the flags that were written last; 0: there is none.
    pub written: u8,
    /// The kick word is to be looked at before this instruction, if it looks for a page.
    pub poll_at: Option<Present>,
    /// It was looked at in this block.
    pub polled: bool,
}

impl Emitter {
    /// Has a branch lead out of line.
    pub(crate) fn tail(&mut self, from: Hole, way: Way) {
        self.tails.push(Tail { from, state: self.state, way });
    }

    /// Likewise, for an access that a look has not found allowed.
    pub(crate) fn leave_missed(&mut self, Missed { from, state, look }: Missed, way: Way) {
        let way = match look {
            Some(look) => Way::OtherStackPage { look, missed: Box::new(way) },
            None => way,
        };
        self.tails.push(Tail { from, state, way });
    }

    pub(crate) fn missed(&self, from: Hole) -> Missed {
        Missed { from, state: self.state, look: None }
    }

    /// Counts instructions. Flags stay.
    pub(crate) fn count(&mut self, instructions: i32) {
        self.code.lea(R14, R14, None, instructions);
    }

    /// The linear address of the memory operand, into R10. Flags stay.
    pub(crate) fn address(&mut self, op: &Op, instruction: &Instruction) {
        self.offset(op, instruction);
        self.segment(instruction);
    }

    /// The offset of the memory operand in its segment, into R10. Flags stay.
    pub(crate) fn offset(&mut self, op: &Op, instruction: &Instruction) {
        self.offset_into(R10, op, instruction);
    }

    /// As [`Self::offset`], into any register; takes R10 and R11.
    pub(crate) fn offset_into(&mut self, to: u8, op: &Op, instruction: &Instruction) {
        let code = &mut self.code;
        let number = |register: Register| match register {
            Register::None => None,
            register => Some(register.number() as u8),
        };
        let disp = instruction.memory_displacement64();
        if instruction.is_ip_rel_memory_operand() {
            code.mov_value(to, disp);
        } else {
            let base = number(instruction.memory_base()).map(|base| in_register(code, base, R10));
            let index =
                number(instruction.memory_index()).map(|index| in_register(code, index, R11));
            let scale = op.scale;
            let disp = disp as i32;
            match (base, index) {
                (Some(base), None) if disp == 0 => code.mov(to, base),
                (Some(base), index) => code.lea(to, base, index.map(|index| (index, scale)), disp),
                (None, Some(index)) => code.lea_index(to, index, scale, disp),
                (None, None) => code.mov_value(to, instruction.memory_displacement64()),
            }
        }
    }

    /// From the offset in R10 to the linear address.
    pub(crate) fn segment(&mut self, instruction: &Instruction) {
        let segment_base = match instruction.memory_segment() {
            Register::FS => FS_BASE,
            Register::GS => GS_BASE,
            _ => return,
        };
        self.code.load(R11, RSP, segment_base);
        self.code.lea(R10, R10, Some((R11, 0)), 0);
    }

    /// Leaves if the epoch at `seen` is not the present one; flags are in the frame.
    pub(crate) fn guard(&mut self, seen: u64, rip: u64) {
        self.state = FlagState::FRAME;
        self.code.load(R11, RSP, EPOCH);
        self.code.mov_value(R10, seen);
        self.code.compare_memory(R10, 0, R11);
        let from = self.code.jump_if(NOT_EQUAL);
        self.tail(from, Way::Stale { rip });
    }

    /// Has tier 0 execute the instruction at `rip` unless its end, in the page `second`, is `end` still.
    /// The flags are in the frame.
    pub(crate) fn check_crossing(&mut self, second: u64, end: &[u8], rip: u64) {
        let index = (second >> PAGE_BITS) as usize % tlb_layout::ENTRIES;
        let entry = index * tlb_layout::ENTRY_LEN;
        self.code.mov_value(R10, second);
        self.code.compare_memory(R15, tlb_layout::execute(index) as i32, R10);
        self.interpret_unless_equal(rip);
        self.code.load(R11, R15, (entry + tlb_layout::HOST) as i32);
        let (dwords, bytes) = end.as_chunks::<4>();
        for (&dword, at) in dwords.iter().zip((0..).step_by(4)) {
            self.code.compare_dword_at_r11(at, dword);
            self.interpret_unless_equal(rip);
        }
        for (&byte, at) in bytes.iter().zip(4 * dwords.len() as u8..) {
            self.code.compare_byte_at_r11(at, byte);
            self.interpret_unless_equal(rip);
        }
    }

    fn interpret_unless_equal(&mut self, rip: u64) {
        let from = self.code.jump_if(NOT_EQUAL);
        self.tail(from, Way::Interpret { rip });
    }

    /// Has tier 0 execute an instruction.
    pub(crate) fn call_out(&mut self, site: SiteAddress) {
        self.save_flags();
        self.call_site(site);
        self.state = FlagState::FRAME;
    }

    /// Puts the address of a site into R10.
    pub(crate) fn load_site(&mut self, site: SiteAddress) {
        self.needs_site = true;
        self.code.mov_value(R10, site);
    }

    fn call_site(&mut self, site: SiteAddress) {
        self.load_site(site);
        self.code.call_frame(CALLOUT);
    }

    /// A guest register into a register of the host: its own, or `scratch`.
    pub(crate) fn register(&mut self, number: u8, scratch: u8) -> u8 {
        in_register(&mut self.code, number, scratch)
    }

    /// A register of the host, R10 or that of the guest register itself, into a guest register.
    pub(crate) fn set_register(&mut self, number: u8, from: u8) {
        match place(number) {
            Place::Host(host) => self.code.mov(host, from),
            Place::Frame(at) => self.code.store(RSP, at, from),
        }
    }

    /// R10W into the low word of a guest register.
    pub(crate) fn set_low_word(&mut self, number: u8) {
        self.code.bytes(&[0x66]);
        match place(number) {
            Place::Host(host) => self.code.mov_low(host, R10),
            Place::Frame(at) => self.code.narrow_memory(&[0x89], R10, RSP, at),
        }
    }

    pub(crate) fn load_spills(&mut self, plan: &Plan) {
        for spill in &plan.spills {
            self.code.load(spill.scratch, RSP, spill.at);
        }
    }

    pub(crate) fn store_spills(&mut self, plan: &Plan) {
        for spill in plan.spills.iter().filter(|spill| spill.written) {
            self.code.store(RSP, spill.at, spill.scratch);
        }
    }

    /// Adds to guest RSP. Flags stay.
    pub(crate) fn move_stack(&mut self, by: i32) {
        self.code.lea(GUEST_RSP, GUEST_RSP, None, by);
    }

    /// Has the slow way that is tail number `tail` come back here.
    pub(crate) fn come_back_here(&mut self, tail: usize) {
        let (here, now) = (self.code.position(), self.state);
        if let Way::Slow { back, behind, .. } = &mut self.tails[tail].way {
            (*back, *behind) = (here, now);
        }
    }

    /// Goes on at an address in another page.
    pub(crate) fn far_jump(&mut self, target: u64, poll: bool) {
        self.save_flags();
        self.state = FlagState::FRAME;
        if poll {
            self.poll(target);
        }
        self.code.mov_value(R10, target);
        self.code.load(R11, RSP, JUMPS);
        let index = jump_cache::index(target);
        let offset = |index| (index << jump_cache::ENTRY_SHIFT) as i32;
        let from = self.jump_through(offset(index));
        let entry = offset(jump_cache::other(index));
        self.tail(from, Way::OtherFarJump { entry });
    }

    /// Goes where the entry at an offset of the table in R11 leads, if it is that of the address in R10.
    pub(crate) fn jump_through(&mut self, entry: i32) -> Hole {
        self.code.compare_memory(R11, entry, R10);
        let from = self.code.jump_if(NOT_EQUAL);
        self.code.jump_memory(R11, entry + HOST_OFFSET);
        from
    }

    /// Goes on at the address in R10, after adding to guest RSP. If it is not known, or others want
    /// something, tier 0 executes the instruction at `site`.
    pub(crate) fn jump_anywhere(&mut self, site: SiteAddress, stack: i32) {
        self.find_entry(site);
        if stack != 0 {
            self.move_stack(stack);
        }
        self.code.jump_memory(R11, HOST_OFFSET);
    }

    /// Keeps where code goes on at the address in R10, for [`Self::jump_to_target`]. If it is not known, or
    /// others want something, tier 0 executes the instruction at `site`.
    pub(crate) fn find_target(&mut self, site: SiteAddress) {
        self.find_entry(site);
        self.code.load(R10, R11, HOST_OFFSET);
        self.code.store(RSP, SCRATCH, R10);
    }

    /// Goes on where [`Self::find_target`] has found.
    pub(crate) fn jump_to_target(&mut self) {
        self.code.jump_memory(RSP, SCRATCH);
    }

    /// The entry of the address in R10, in R11. What has none need not be canonical: the fault is that of the
    /// branch.
    fn find_entry(&mut self, site: SiteAddress) {
        self.save_flags_beside_address();
        self.code.load(R11, RSP, KICK);
        self.code.compare_zero(R11);
        let from = self.code.jump_if(NOT_EQUAL);
        self.last_slow(from, site);
        self.needs_site = true;
        self.find_jump(site);
    }

    /// The entry of the address in R10, in R11; if there is none, tier 0 executes the instruction at the site.
    fn find_jump(&mut self, site: SiteAddress) {
        self.code.bits_from(jump_cache::PAGE_SHIFT);
        // xor r11, r10
        self.code.bytes(&[0x4D, 0x31, 0xD3]);
        self.code.and(R11, (jump_cache::ENTRIES - 1) as u32);
        self.code.shift_left(R11, jump_cache::ENTRY_SHIFT);
        // add r11, [rsp + JUMPS]
        self.code.bytes(&[0x4C, 0x03, 0x5C, 0x24, JUMPS as u8]);
        self.code.compare_memory(R11, 0, R10);
        let from = self.code.jump_if(NOT_EQUAL);
        self.tail(from, Way::OtherJump { back: self.code.position(), site });
    }

    /// The code of a [`Way::OtherJump`].
    pub(crate) fn find_other_jump(&mut self, back: usize, site: SiteAddress) {
        // xor r11, 1 << ENTRY_SHIFT
        self.code.bytes(&[0x49, 0x83, 0xF3, 1 << jump_cache::ENTRY_SHIFT]);
        self.code.compare_memory(R11, 0, R10);
        let from = self.code.jump_if(NOT_EQUAL);
        self.code.jump_to(back);
        self.last_slow(from, site);
    }

    fn last_slow(&mut self, from: Hole, site: SiteAddress) {
        self.needs_site = true;
        let behind = FlagState::FRAME;
        self.tail(from, Way::Slow { site, back: 0, behind, last: true });
    }

    /// Leaves for an address.
    pub(crate) fn exit_for(&mut self, target: u64) {
        self.save_flags();
        self.code.mov_value(R10, target);
        self.exit();
    }

    /// Leaves for the address in R10; the flags are in the frame.
    pub(crate) fn exit(&mut self) {
        self.code.jump_memory(RSP, LEAVE);
    }

    /// Leaves through a link that is not yet one.
    pub(crate) fn leave_linked(&mut self, link: u32) {
        self.make_again();
        self.code.mov_value(R10, link.into());
        let way = if self.state.frame { LEAVE_LINKED } else { LEAVE_SAVING };
        self.code.jump_memory(RSP, way);
    }

    /// Leaves for an address whose page has to be compared.
    pub(crate) fn leave_stale(&mut self, rip: u64) {
        self.save_flags();
        self.code.mov_value(R10, rip);
        self.code.jump_memory(RSP, LEAVE_STALE);
    }

    /// Leaves at `rip` for tier 0 to execute what is there.
    pub(crate) fn leave_to_interpret(&mut self, rip: u64) {
        self.save_flags();
        self.code.store_dword(RSP, LINK, INTERPRET);
        self.code.mov_value(R10, rip);
        self.exit();
    }

    /// Has tier 0 execute a DIV whose upper half, EDX or RDX, is not below the divisor. Overwrites the
    /// host's flags.
    pub(crate) fn compare_halves(&mut self, wide: bool, divisor: u8) -> Hole {
        if wide {
            self.code.compare(RDX, divisor);
        } else {
            self.code.compare_low(RDX, divisor);
        }
        self.code.jump_if(NOT_BELOW)
    }

    /// Has tier 0 execute an instruction if the guest's direction flag is set. Overwrites the host's flags.
    pub(crate) fn check_direction(&mut self) -> Missed {
        self.code.compare_byte(DOWN, 0);
        let from = self.code.jump_if(NOT_EQUAL);
        self.missed(from)
    }

    /// Keeps R10 in the frame.
    pub(crate) fn stash(&mut self) {
        self.code.store(RSP, SCRATCH, R10);
    }

    /// Takes back what [`Self::stash`] kept.
    pub(crate) fn unstash(&mut self) {
        self.code.load(R10, RSP, SCRATCH);
    }

    /// The code of a [`Way::Slow`].
    pub(crate) fn slow(&mut self, site: SiteAddress, back: usize, behind: FlagState, last: bool) {
        self.save_flags();
        self.call_site(site);
        if last {
            // ud2: a last instruction does not come back.
            self.code.bytes(&[0x0F, 0x0B]);
            return;
        }
        self.state = FlagState::FRAME;
        if behind.host {
            self.restore_flags();
        }
        self.code.jump_to(back);
    }
}

fn in_register(code: &mut Assembler, number: u8, scratch: u8) -> u8 {
    match place(number) {
        Place::Host(host) => host,
        Place::Frame(at) => {
            code.load(scratch, RSP, at);
            scratch
        }
    }
}
