//! String instructions without a repeat prefix: compilers that look for short code make many of them.

use iced_x86::{Code, Instruction};

use crate::assemble::{R10, R11};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::Item;
use crate::flags::FlagState;

/// Guest RSI and RDI.
const SOURCE: u8 = 6;
const DESTINATION: u8 = 7;

/// What moves, and how many bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moves {
    /// From `[rsi]`, or else from RAX.
    pub loads: bool,
    /// To `[rdi]`, or else to RAX.
    pub stores: bool,
    /// Bytes.
    pub len: usize,
}

/// What a string instruction moves, if it moves once.
pub(crate) fn moves(instruction: &Instruction) -> Option<Moves> {
    let (loads, stores, len) = match instruction.code() {
        Code::Movsb_m8_m8 => (true, true, 1),
        Code::Movsw_m16_m16 => (true, true, 2),
        Code::Movsd_m32_m32 => (true, true, 4),
        Code::Movsq_m64_m64 => (true, true, 8),
        Code::Stosb_m8_AL => (false, true, 1),
        Code::Stosw_m16_AX => (false, true, 2),
        Code::Stosd_m32_EAX => (false, true, 4),
        Code::Stosq_m64_RAX => (false, true, 8),
        Code::Lodsb_AL_m8 => (true, false, 1),
        Code::Lodsw_AX_m16 => (true, false, 2),
        Code::Lodsd_EAX_m32 => (true, false, 4),
        Code::Lodsq_RAX_m64 => (true, false, 8),
        _ => return None,
    };
    let once = !instruction.has_rep_prefix() && !instruction.has_repne_prefix();
    once.then_some(Moves { loads, stores, len })
}

impl BlockMaker {
    /// Tier 0 executes it if the direction flag is set.
    pub(crate) fn string(&mut self, item: &Item, site: SiteAddress, moves: Moves) {
        let Moves { loads, stores, len } = moves;
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        let mut missed = vec![self.emitter.check_direction()];
        if loads {
            self.emitter.code.mov(R10, SOURCE);
            self.emitter.segment(&item.instruction);
            missed.push(self.access(len, false));
            if stores {
                self.emitter.code.load_sized_to_r10(len);
                self.emitter.stash();
            } else {
                self.emitter.code.load_sized_to_rax(len);
            }
        }
        if stores {
            self.emitter.code.mov(R10, DESTINATION);
            missed.push(self.access(len, true));
            if loads {
                self.emitter.code.add(R11, R10);
                self.emitter.unstash();
                self.emitter.code.store_sized_from_r10(len);
            } else {
                self.emitter.code.store_sized_from_rax(len);
            }
            self.emitter.code.lea(DESTINATION, DESTINATION, None, len as i32);
        }
        if loads {
            self.emitter.code.lea(SOURCE, SOURCE, None, len as i32);
        }
        for missed in missed {
            self.slow(missed, site, item.last);
        }
    }
}
