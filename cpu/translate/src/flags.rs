//! Where the status flags are, and moving them.

use crate::assemble::{R10, R11, RAX};
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
}

impl FlagState {
    pub(crate) const HOST: Self = FlagState { host: true, frame: false };
    pub(crate) const FRAME: Self = FlagState { host: false, frame: true };
    /// In both, or of no interest.
    pub(crate) const BOTH: Self = FlagState { host: true, frame: true };
    /// Nowhere, but [`Emitter::again`] makes them again.
    pub(crate) const LOST: Self = FlagState { host: false, frame: false };
}

impl Emitter {
    /// Makes flags again that are lost.
    fn make_again(&mut self) {
        if self.state == FlagState::LOST {
            self.code.bytes(&self.again);
            self.state = FlagState::HOST;
        }
    }

    /// Puts the flags into the frame, if they are not there. Takes R10.
    pub(crate) fn save_flags(&mut self) {
        self.make_again();
        if !self.state.frame {
            self.code.mov(R10, RAX);
            // lahf; seto al
            self.code.bytes(&[0x9F, 0x0F, 0x90, 0xC0]);
            // mov [rsp + FLAGS], ax
            self.code.bytes(&[0x66, 0x89, 0x44, 0x24, FLAGS as u8]);
            self.code.mov(RAX, R10);
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

    /// Puts CF into the host's RFLAGS, if it is only in the frame; the other flags are lost there.
    pub(crate) fn restore_carry(&mut self) {
        self.make_again();
        if !self.state.host {
            // bt dword [rsp + FLAGS], CARRY_BIT
            self.code.bytes(&[0x0F, 0xBA, 0x64, 0x24, FLAGS as u8, CARRY_BIT]);
        }
    }

    /// As [`Self::save_flags`], with R10 in use.
    pub(crate) fn save_flags_beside_address(&mut self) {
        self.make_again();
        if !self.state.frame {
            self.code.mov(R11, RAX);
            // lahf; seto al
            self.code.bytes(&[0x9F, 0x0F, 0x90, 0xC0]);
            // mov [rsp + FLAGS], ax
            self.code.bytes(&[0x66, 0x89, 0x44, 0x24, FLAGS as u8]);
            self.code.mov(RAX, R11);
        }
        self.state = FlagState::FRAME;
    }

    /// As [`Self::save_flags_beside_address`], but what is lost may remain so.
    pub(crate) fn keep_flags_beside_address(&mut self) {
        if self.state != FlagState::LOST {
            self.save_flags_beside_address();
        }
    }
}
