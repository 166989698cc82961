//! Looks at the kick word, which has translated code leave when others want something.
//!
//! A block that ends with a branch backwards looks once. At the first instruction that looks for a page the
//! flags are out of the way already, so it is there; a block without one does so before it branches. Jumps
//! to wherever, and loops of one block, look by themselves.
//!
//! Law: no way through branches that do not look can be endless: they lead forward.

use iced_x86::OpKind;

use crate::assemble::{NOT_EQUAL, R10, R11, RCX, RSP};
use crate::effects::{Item, Kind};
use crate::emit::{Emitter, Present, Way};
use crate::frame::KICK;

/// Whether an instruction branches backwards.
pub(crate) fn may_close_loop(item: &Item) -> bool {
    let instruction = &item.instruction;
    matches!(item.kind, Kind::Call | Kind::Jump | Kind::JumpIf)
        && instruction.op0_kind() == OpKind::NearBranch64
        && instruction.near_branch64() < instruction.next_ip()
}

impl Emitter {
    /// The host's flags may be overwritten, and nothing of the present instruction has happened: looks, if
    /// the block has to. R10 is in use; takes R11.
    pub(crate) fn poll_early(&mut self) {
        let Some(present) = self.poll_at.take() else { return };
        self.polled = true;
        self.poll_for(Way::ExitBefore(present));
    }

    /// Looks; leaves for `target` if somebody wants something. Flags are in the frame and stay there, or are
    /// lost.
    pub(crate) fn poll(&mut self, target: u64) {
        self.state.host = false;
        self.poll_for(Way::ExitFor { target });
    }

    fn poll_for(&mut self, way: Way) {
        self.code.load(R11, RSP, KICK);
        self.code.compare_zero(R11);
        let from = self.code.jump_if(NOT_EQUAL);
        self.tail(from, way);
    }

    /// As [`Self::poll`], with the flags in the host's RFLAGS, where they stay.
    pub(crate) fn poll_keeping_flags(&mut self, target: u64) {
        let code = &mut self.code;
        code.mov(R10, RCX);
        code.load(R11, RSP, KICK);
        // mov ecx, [r11]
        code.bytes(&[0x41, 0x8B, 0x0B]);
        // jrcxz over what follows
        code.bytes(&[0xE3, 0]);
        let over = code.position();
        let from = code.jump();
        self.tail(from, Way::ExitWithCount { target });
        self.code.patch_short(over);
        self.code.mov(RCX, R10);
    }

    /// Leaves at an instruction that was counted, with those behind it.
    pub(crate) fn exit_before(&mut self, Present { rip, rest, .. }: Present) {
        self.count(-(rest as i32 + 1));
        self.exit_for(rip);
    }
}
