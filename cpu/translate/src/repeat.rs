//! Loops of one block.
//!
//! A block that branches back to its own start is made several times over. The first turn is for who
//! comes from elsewhere: it looks for pages as any block does, and keeps in the frame what it found. Those
//! behind it compare an access that moves on with the page of the turn before, and do not look for one
//! that stays at all. The last goes back to the second, and is the one that looks at the kick word.
//! Instructions are counted for some turns together.
//!
//! Law: what is kept is that of this loop, from its first turn on. As for groups, entries of the TLB are
//! taken away outside of translated code only, and who comes from there begins with the first turn.

use crate::block::BlockMaker;
use crate::effects::{Item, Kind};
use crate::flags::FlagState;
use crate::group::Habit;
use crate::sites::Sites;

/// Most instructions of a loop that is made several times over.
const LONGEST: usize = 32;
/// About so many are made behind the first turn.
const ENOUGH: usize = 32;
/// Most turns behind the first.
const MOST_TURNS: usize = 4;

/// The block at `rip` is a loop that is worth it.
pub(crate) fn is_loop(items: &[Item], rip: u64) -> bool {
    let Some(last) = items.last().filter(|_| items.len() <= LONGEST) else { return false };
    let plain = |item: &Item| {
        use Kind as K;
        let x87 = item.used.is_some_and(|used| used.x87);
        let kind =
            matches!(item.kind, K::Nothing | K::Copied | K::Lea | K::Push | K::Pop | K::JumpIf);
        kind && !item.crosses && !x87
    };
    last.kind == Kind::JumpIf
        && last.instruction.near_branch64() == rip
        && items[..items.len() - 1].iter().all(plain)
        && items.iter().any(Item::clobbers_flags)
}

/// Which time the instructions of a block are made into code.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Turn {
    /// It is no loop.
    Only,
    /// For who comes from elsewhere.
    First,
    /// For who comes from the turn before. So many of all are left behind it; from the last one the way
    /// leads back to the second turn.
    Again { left: usize, all: usize },
}

impl Turn {
    /// How many instructions it counts, of a block of so many: the second turn counts all behind it, too.
    pub(crate) fn counts(self, len: usize) -> usize {
        match self {
            Turn::Only | Turn::First => len,
            Turn::Again { left, all } if left + 1 == all => all * len,
            Turn::Again { .. } => 0,
        }
    }

    /// How many are counted that come in turns behind it.
    pub(crate) fn behind(self, len: usize) -> usize {
        match self {
            Turn::Only | Turn::First => 0,
            Turn::Again { left, .. } => left * len,
        }
    }

    pub(crate) fn is_again(self) -> bool {
        matches!(self, Turn::Again { .. })
    }
}

impl BlockMaker {
    /// The turns behind the first.
    pub(crate) fn turns(&mut self, rip: u64, bytes: &[u8], items: &[Item], sites: &mut Sites) {
        self.second = self.emitter.code.position();
        let all = (ENOUGH / items.len().max(1)).clamp(1, MOST_TURNS);
        for left in (0..all).rev() {
            self.turn = Turn::Again { left, all };
            for (kept, group) in self.kept.iter_mut().zip(&self.groups) {
                *kept = group.habit == Habit::Stays;
            }
            self.items(rip, bytes, items, sites);
        }
    }

    /// At the end of a turn, behind the branch out of the loop: the flags are in the host's RFLAGS.
    pub(crate) fn turn(&mut self, start: u64) {
        self.emitter.written = self.carried;
        if self.carried == 0 {
            self.emitter.save_flags();
            self.emitter.state = FlagState::FRAME;
        } else {
            self.emitter.lose_flags(self.carried);
        }
        if matches!(self.turn, Turn::Again { left: 0, .. }) {
            self.emitter.poll(start);
            self.emitter.code.jump_to(self.second);
        }
    }
}
