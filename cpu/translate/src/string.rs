//! String instructions: without a repeat prefix, of which compilers that look for short code make many,
//! and repeated ones that stay in a page, with which kernels copy and clear.

use cpu_mem::PAGE_SIZE;
use iced_x86::{Code, Instruction};

use crate::assemble::{BELOW, EQUAL, R10, R11, RCX, RSP};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::Item;
use crate::emit::Missed;
use crate::flags::FlagState;
use crate::frame::SCRATCH;

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
    /// As often as RCX says.
    pub repeated: bool,
}

/// What a string instruction moves, if there is a short way to do it.
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
    let repeated = instruction.has_rep_prefix();
    let short = !instruction.has_repne_prefix() && (stores || !repeated);
    short.then_some(Moves { loads, stores, len, repeated })
}

impl BlockMaker {
    /// Tier 0 executes it if the direction flag is set.
    pub(crate) fn string(&mut self, item: &Item, site: SiteAddress, moves: Moves) {
        if moves.repeated {
            self.repeated(item, site, moves);
            return;
        }
        let Moves { loads, stores, len, .. } = moves;
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

    /// The host repeats it as often, where all that it loads is in one page, and all that it stores.
    /// Tier 0 executes it if not, or if the direction flag is set.
    fn repeated(&mut self, item: &Item, site: SiteAddress, Moves { loads, len, .. }: Moves) {
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        let mut missed = vec![self.emitter.check_direction()];
        self.emitter.code.test(RCX);
        let none = self.emitter.code.jump_if(EQUAL);
        if loads {
            self.emitter.code.mov(R10, SOURCE);
            self.emitter.segment(&item.instruction);
            missed.extend(self.elements(len, false));
            self.emitter.code.store(RSP, SCRATCH, R11);
        }
        self.emitter.code.mov(R10, DESTINATION);
        missed.extend(self.elements(len, true));
        let code = &mut self.emitter.code;
        let count = (RCX, len.trailing_zeros() as u8);
        if loads {
            code.lea(R10, SOURCE, Some(count), 0);
            code.load(SOURCE, RSP, SCRATCH);
            code.store(RSP, SCRATCH, R10);
        }
        code.lea(R10, DESTINATION, Some(count), 0);
        code.mov(DESTINATION, R11);
        code.repeat(loads, len);
        code.mov(DESTINATION, R10);
        if loads {
            code.load(SOURCE, RSP, SCRATCH);
        }
        code.here(none);
        for missed in missed {
            self.slow(missed, site, item.last);
        }
    }

    /// From the linear address in R10 to that in this process, in R11, of RCX elements of `len` bytes
    /// in one page. Takes R10.
    fn elements(&mut self, len: usize, write: bool) -> [Missed; 2] {
        let unknown = self.access(len, write);
        let code = &mut self.emitter.code;
        code.add(R11, R10);
        code.subtract_from_value(PAGE_SIZE as i32, R10);
        if len > 1 {
            code.shift_right(R10, len.trailing_zeros() as u8);
        }
        code.compare(R10, RCX);
        let from = code.jump_if(BELOW);
        [unknown, self.emitter.missed(from)]
    }
}
