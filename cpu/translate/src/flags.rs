//! Where the status flags are, and moving them.

use crate::assemble::{R10, R11, RAX, RSP};
use crate::effects::{Flags, Item, STATUS};
use crate::emit::Emitter;
use crate::frame::FLAGS;

/// Bit of CF in [`crate::frame::Frame::flags`].
const CARRY_BIT: u8 = 8;

/// Where the status flags are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct FlagState {
    /// In the host's RFLAGS.
    pub host: bool,
    /// In the frame.
    pub frame: bool,
    /// If they are in neither: number of what makes them again, see [`crate::again`].
    pub again: u8,
}

impl FlagState {
    pub(crate) const HOST: Self = FlagState { host: true, frame: false, again: 0 };
    pub(crate) const FRAME: Self = FlagState { host: false, frame: true, again: 0 };
    /// In both, or of no interest.
    pub(crate) const BOTH: Self = FlagState { host: true, frame: true, again: 0 };

    /// Nowhere, but this makes them again.
    pub(crate) fn lost(again: u8) -> Self {
        FlagState { host: false, frame: false, again }
    }

    /// They are nowhere.
    pub(crate) fn are_lost(self) -> bool {
        !self.host && !self.frame
    }
}

/// Finds the instructions behind which all flags are written before anything looks at them or may have to
/// save them.
pub(crate) fn find_unseen(items: &mut [Item]) {
    let mut unseen = false;
    for item in items.iter_mut().rev() {
        let reads = item.instruction.rflags_read() & STATUS != 0;
        item.unseen = unseen && !reads;
        unseen = match item.flags {
            _ if reads || item.clobbers_flags() || item.used.is_some() => false,
            Flags::Replaced => true,
            _ => unseen,
        };
    }
}

impl Emitter {
    /// The host's flags are about to be overwritten: saves them, unless they can be made again. R10 is in
    /// use; takes R11. Nothing of the instruction has happened.
    pub(crate) fn give_up_flags(&mut self) {
        self.give_up_flags_through(R11);
        self.poll_early();
    }

    /// As [`Self::give_up_flags`], taking another register.
    pub(crate) fn give_up_flags_through(&mut self, scratch: u8) {
        if self.state == FlagState::HOST && self.written != 0 {
            self.lose_flags(self.written);
        }
        if !self.state.are_lost() {
            self.save_flags_through(scratch);
            self.state = FlagState::FRAME;
        }
    }

    /// Puts the flags into the frame, if they are not there. Takes R10.
    pub(crate) fn save_flags(&mut self) {
        self.save_flags_through(R10);
    }

    /// As [`Self::save_flags`], with R10 in use; takes R11.
    pub(crate) fn save_flags_beside_address(&mut self) {
        self.save_flags_through(R11);
        self.state = FlagState::FRAME;
    }

    fn save_flags_through(&mut self, scratch: u8) {
        self.make_again();
        if !self.state.frame {
            self.code.mov(scratch, RAX);
            // lahf; seto al
            self.code.bytes(&[0x9F, 0x0F, 0x90, 0xC0]);
            // mov [rsp + FLAGS], ax
            self.code.bytes(&[0x66, 0x89, 0x44, 0x24, FLAGS as u8]);
            self.code.mov(RAX, scratch);
        }
        self.state.frame = true;
    }

    /// Puts the flags into the host's RFLAGS, if they are not there. Takes R10.
    pub(crate) fn restore_flags(&mut self) {
        self.make_again();
        if !self.state.host {
            self.code.mov(R10, RAX);
            // movzx eax, word [rsp + FLAGS]; add al, 0x7F; sahf
            self.code.bytes(&[0x0F, 0xB7, 0x44, 0x24, FLAGS as u8, 0x04, 0x7F, 0x9E]);
            self.code.mov(RAX, R10);
        }
        self.state.host = true;
    }

    /// Puts CF of the host's RFLAGS into the frame, where the other flags are. Takes R10 and R11.
    pub(crate) fn put_carry(&mut self) {
        // setc r11b; movzx r11d, r11b
        self.code.bytes(&[0x41, 0x0F, 0x92, 0xC3, 0x45, 0x0F, 0xB6, 0xDB]);
        self.code.shift_left(R11, CARRY_BIT);
        // movzx r10d, word [rsp + FLAGS]
        self.code.narrow_memory(&[0x0F, 0xB7], R10, RSP, FLAGS);
        self.code.and(R10, !(1 << CARRY_BIT));
        self.code.add(R10, R11);
        // mov [rsp + FLAGS], r10w
        self.code.bytes(&[0x66]);
        self.code.narrow_memory(&[0x89], R10, RSP, FLAGS);
    }

    /// Puts CF into the host's RFLAGS, if it is only in the frame; the other flags are lost there.
    pub(crate) fn restore_carry(&mut self) {
        self.make_again();
        if !self.state.host {
            // bt word [rsp + FLAGS], CARRY_BIT
            self.code.bytes(&[0x66, 0x0F, 0xBA, 0x64, 0x24, FLAGS as u8, CARRY_BIT]);
        }
    }
}
