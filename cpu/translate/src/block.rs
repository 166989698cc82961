//! From the instructions of a block to host code.
//!
//! Law: an instruction changes nothing before its last access that may fail, since tier 0 executes
//! it from its start then.

use iced_x86::{Encoder, InstructionInfoFactory};

use crate::assemble::Assembler;
use crate::callout::{Site, SiteAddress};
use crate::effects::{Flags, Item, Kind};
use crate::emit::{Emitter, Present, Way};
use crate::flags::{self, FlagState};
use crate::frame::GROUP_SLOTS;
use crate::group::{self, Group};
use crate::kick;
use crate::registers::{self, Checked, Registers};
use crate::repeat::{self, Turn};
use crate::sites::Sites;
use crate::x87;

/// A branch that was made and can be linked to its target.
pub(crate) struct LinkPlace {
    /// Where its distance is.
    pub place: usize,
    pub target: u64,
    /// Where the flags are on the way.
    pub state: FlagState,
    /// What is loaded on the way.
    pub loaded: Registers,
    /// It is to be a block without groups.
    pub twin: bool,
}

/// Makes blocks.
pub(crate) struct BlockMaker {
    pub(crate) infos: InstructionInfoFactory,
    pub(crate) encoder: Encoder,
    pub(crate) emitter: Emitter,
    pub(crate) links: Vec<LinkPlace>,
    /// Number of the first link of the block.
    pub(crate) first_link: u32,
    /// The page of the block.
    pub(crate) page: u64,
    /// Where the block begins, and its entry for flags in the frame, if the block may go on there
    /// by itself.
    pub(crate) head: Option<(u64, usize)>,
    pub(crate) turn: Turn,
    /// Where the second turn begins.
    pub(crate) second: usize,
    pub(crate) groups: Vec<Group>,
    /// The group whose address is in R11.
    pub(crate) held: Option<usize>,
    /// Those whose addresses are in the frame.
    pub(crate) kept: [bool; GROUP_SLOTS],
    pub(crate) present: Present,
    /// By instruction, and of the last turn of a loop: what makes its flags again, see [`crate::again`].
    pub(crate) again: Vec<u8>,
    pub(crate) carried: u8,
}

/// How a block is to be made.
#[derive(Clone, Copy)]
pub(crate) struct Manner {
    /// It leaves where it ends, even to its own start.
    pub alone: bool,
    /// Accesses share looks into the TLB.
    pub grouped: bool,
}

/// A block that was made: its code is in the assembler.
#[derive(Default)]
pub(crate) struct Made {
    /// Entry for flags in the host's RFLAGS.
    pub host_entry: usize,
    /// Entry for flags in the frame.
    pub frame_entry: usize,
    /// Entry for flags in both.
    pub entry: usize,
    /// Entry with a look at the epoch, for flags in the frame.
    pub guarded: usize,
    /// Entries with a look at what is loaded, if that counts.
    pub checked: Checked,
    /// What has to be loaded, see [`crate::registers`].
    pub wanted: Registers,
    /// Where the code begins that is seldom executed.
    pub apart: usize,
}

impl BlockMaker {
    pub(crate) fn new() -> Self {
        BlockMaker {
            infos: InstructionInfoFactory::new(),
            encoder: Encoder::new(64),
            emitter: Emitter {
                code: Assembler::default(),
                state: FlagState::BOTH,
                tails: Vec::new(),
                needs_site: false,
                again: Vec::new(),
                written: 0,
                poll_at: None,
                polled: false,
            },
            links: Vec::new(),
            first_link: 1,
            page: 0,
            head: None,
            turn: Turn::Only,
            second: 0,
            groups: Vec::new(),
            held: None,
            kept: [false; GROUP_SLOTS],
            present: Present { rip: 0, rest: 0, loaded: Registers::NONE },
            again: Vec::new(),
            carried: 0,
        }
    }

    /// Makes a block of `items` from the linear address `rip`, whose code is `bytes`. `seen` is where
    /// [`crate::pages::Pages::seen`] says; `sites` get those that the code may need.
    pub(crate) fn make(
        &mut self,
        rip: u64,
        bytes: &[u8],
        items: &mut [Item],
        seen: u64,
        sites: &mut Sites,
        manner: Manner,
    ) -> Made {
        self.emitter.code.clear();
        self.emitter.tails.clear();
        self.links.clear();
        self.page = rip & !0xFFF;
        let (wanted, loaded) = registers::plan(items);
        flags::find_unseen(items);
        x87::plan(items);
        // Who comes from another page falls into the block, unless more is to be looked at.
        let guarded = wanted == Registers::NONE;
        if guarded {
            self.emitter.guard(seen, rip);
        }
        let mut made = Made { wanted, ..self.entries(items, guarded) };
        let returns =
            self.emitter.state == FlagState::FRAME && loaded.cover(wanted) && !manner.alone;
        // From a twin the way back is that to the block.
        self.head = (returns && manner.grouped).then_some((rip, made.frame_entry));
        let repeats = self.head.is_some() && repeat::is_loop(items, rip);
        self.groups.clear();
        if manner.grouped {
            self.groups = group::plan(&mut self.infos, items, repeats);
        }
        if let [Item { crosses: true, .. }] = items {
            let second = (rip | 0xFFF).wrapping_add(1);
            let first_len = second.wrapping_sub(rip) as usize;
            self.emitter.check_crossing(second, &bytes[first_len..], rip);
        }
        self.turn = if repeats { Turn::First } else { Turn::Only };
        self.plan_again(items, repeats);
        self.items(rip, bytes, items, sites);
        if repeats {
            self.turns(rip, bytes, items, sites);
        }
        self.sides();
        if !guarded {
            made.guarded = self.emitter.code.position();
            self.emitter.guard(seen, rip);
            made.checked = self.emitter.check_loaded(wanted, made.frame_entry, rip);
        }
        made.apart = self.emitter.code.position();
        self.tails();
        made
    }

    /// All instructions, and where they lead.
    pub(crate) fn items(&mut self, rip: u64, bytes: &[u8], items: &[Item], sites: &mut Sites) {
        self.held = None;
        let counted = self.turn.counts(items.len());
        if counted != 0 {
            self.emitter.count(counted as i32);
        }
        let behind = self.turn.behind(items.len());
        let polls = self.turn == Turn::Only && items.last().is_some_and(kick::may_close_loop);
        self.emitter.polled = false;
        let mut next = rip;
        for (number, item) in items.iter().enumerate() {
            let at = next;
            next = at.wrapping_add(item.instruction.len() as u64);
            let rest = (items.len() - 1 - number + behind) as u64;
            let Item { op, last, shadowed, loaded, .. } = *item;
            let site = sites.next();
            self.emitter.needs_site = false;
            self.present = Present { rip: at, rest, loaded };
            let polls_here = polls && !self.emitter.polled && !shadowed;
            self.emitter.poll_at = polls_here.then_some(self.present);
            self.make_room(item);
            let raw = &bytes[item.at..item.at + item.instruction.len()];
            self.item(item, site, raw, at, next);
            if writes_flags(item.flags) {
                self.emitter.written = self.again[number];
            }
            if shadowed && item.kind != Kind::Callout {
                self.end_shadow();
            }
            if self.emitter.needs_site {
                sites.push(Site { op, rip: at, last, rest: rest as u16, shadowed, loaded });
            }
        }
        if !items.last().is_some_and(|item| item.last) {
            self.go_to(next, false);
        }
    }

    /// The start: from wherever the flags are to where the first instruction wants them. Who is `guarded`
    /// comes from above, with the flags in the frame.
    fn entries(&mut self, items: &[Item], guarded: bool) -> Made {
        let emitter = &mut self.emitter;
        let wanted = items.iter().find_map(|item| match item.flags {
            _ if item.clobbers_flags() => Some(FlagState::FRAME),
            Flags::Replaced => Some(FlagState::BOTH),
            Flags::Ignored => None,
            Flags::Carry { .. } | Flags::Used { .. } => Some(FlagState::HOST),
        });
        let mut made = Made::default();
        match wanted.unwrap_or(FlagState::FRAME) {
            FlagState::FRAME => {
                let guard = guarded.then(|| emitter.code.jump_short());
                made.host_entry = emitter.code.position();
                emitter.state = FlagState::HOST;
                emitter.save_flags();
                if let Some(guard) = guard {
                    emitter.code.patch_short(guard);
                }
                emitter.state = FlagState::FRAME;
                made.frame_entry = emitter.code.position();
                made.entry = made.frame_entry;
            }
            FlagState::HOST => {
                made.frame_entry = emitter.code.position();
                emitter.state = FlagState::FRAME;
                emitter.restore_flags();
                emitter.state = FlagState::HOST;
                made.host_entry = emitter.code.position();
                made.entry = made.host_entry;
            }
            _ => {
                emitter.state = FlagState::BOTH;
                made.entry = emitter.code.position();
                (made.host_entry, made.frame_entry) = (made.entry, made.entry);
            }
        }
        made
    }

    fn item(&mut self, item: &Item, site: SiteAddress, raw: &[u8], at: u64, next: u64) {
        match item.kind {
            Kind::Nothing => {}
            Kind::Callout => {
                self.emitter.call_out(site);
                if item.last {
                    // ud2: it does not come back.
                    self.emitter.code.bytes(&[0x0F, 0x0B]);
                }
            }
            Kind::Copied => self.copied(item, site, raw),
            Kind::LoadControl => self.load_control(item, site),
            Kind::Look => self.look(item, site),
            Kind::Lea => self.lea(item),
            Kind::Push => self.push(item, site),
            Kind::Pop => self.pop(item, site),
            Kind::Leave => self.leave(item, site),
            Kind::Divide => self.divide(item, site),
            Kind::String(moves) => self.string(item, site, moves),
            Kind::System(system) => self.system(item, site, system),
            Kind::Read(reading) => self.read(item, site, reading),
            Kind::FarBit(bit) => self.far_bit(item, site, bit),
            Kind::Call => self.call(item, site, next),
            Kind::Return => self.ret(item, site),
            Kind::Jump => self.jump(item, site, at),
            Kind::JumpIf => self.jump_if(item, at, next),
        }
    }

    /// Goes on at an address, with the flags wherever they are.
    pub(crate) fn go_to(&mut self, target: u64, backwards: bool) {
        self.emitter.make_again();
        let poll = backwards && !self.emitter.polled;
        if let Some((_, head)) = self.head.filter(|&(start, _)| poll && start == target) {
            self.emitter.save_flags();
            self.emitter.poll(target);
            self.emitter.code.jump_to(head);
        } else if target & !0xFFF == self.page {
            if poll && self.emitter.state.frame {
                self.emitter.poll(target);
            } else if poll {
                self.emitter.poll_keeping_flags(target);
            }
            let from = self.emitter.code.jump();
            let loaded = self.present.loaded;
            self.emitter.tail(from, Way::Edge { target, loaded });
        } else {
            self.emitter.far_jump(target, poll);
        }
    }
}

/// Some of them.
pub(crate) fn writes_flags(flags: Flags) -> bool {
    match flags {
        Flags::Ignored => false,
        Flags::Replaced => true,
        Flags::Carry { written } | Flags::Used { written } => written,
    }
}
