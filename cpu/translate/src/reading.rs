//! Instructions that read a word of the processor: RDTSC, RDTSCP, RDPKRU, and MOV from segment and
//! control registers.
//!
//! Whatever writes these words is done in Rust, so they are in [`Arch`], or in the frame, as long as
//! translated code runs.

use std::mem::offset_of;

use cpu_interp::state::{Arch, Msrs, Segment};
use iced_x86::{Code, Instruction, OpKind, Register};

use crate::assemble::{NOT_EQUAL, R10, R11, RAX, RCX, RDX, RSP};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::Item;
use crate::emit::Missed;
use crate::flags::FlagState;
use crate::frame::{SLOTS, TSC_OFFSET};
use crate::system::{Grants, from_slots};

/// Bits of EAX and EDX.
const HALF: u8 = 32;

/// What is read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reading {
    TimeStamp,
    /// And IA32_TSC_AUX.
    TimeStampAndAux,
    ProtectionKeys,
    /// A segment's, by number.
    Selector(usize),
    /// CR0, CR2, CR3 or CR4: where in [`Arch`] it is.
    Control(usize),
}

/// What an instruction reads.
pub(crate) fn reading(instruction: &Instruction) -> Option<Reading> {
    Some(match instruction.code() {
        Code::Rdtsc => Reading::TimeStamp,
        Code::Rdtscp => Reading::TimeStampAndAux,
        Code::Rdpkru => Reading::ProtectionKeys,
        Code::Mov_rm16_Sreg | Code::Mov_r32m16_Sreg | Code::Mov_r64m16_Sreg
            if instruction.op0_kind() == OpKind::Register =>
        {
            Reading::Selector(instruction.op1_register().number())
        }
        Code::Mov_r64_cr => Reading::Control(match instruction.op1_register() {
            Register::CR0 => offset_of!(Arch, cr0),
            Register::CR2 => offset_of!(Arch, cr2),
            Register::CR3 => offset_of!(Arch, cr3),
            Register::CR4 => offset_of!(Arch, cr4),
            _ => return None,
        }),
        _ => return None,
    })
}

impl Reading {
    /// It reads the same each time, until something changes it.
    pub(crate) fn stays(self) -> bool {
        !matches!(self, Reading::TimeStamp | Reading::TimeStampAndAux)
    }
}

const PKRU: i32 = from_slots(offset_of!(Arch, pkru));
const TSC_AUX: i32 = from_slots(offset_of!(Arch, msrs) + offset_of!(Msrs, tsc_aux));

const fn selector(segment: usize) -> i32 {
    let segments = offset_of!(Arch, seg) + segment * size_of::<Segment>();
    from_slots(segments + offset_of!(Segment, selector))
}

impl BlockMaker {
    pub(crate) fn read(&mut self, item: &Item, site: SiteAddress, reading: Reading) {
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        let to = item.instruction.op0_register().number() as u8;
        let mut missed = Vec::new();
        match reading {
            Reading::TimeStamp => missed.push(self.read_time_stamp()),
            Reading::TimeStampAndAux => {
                missed.push(self.read_time_stamp());
                self.emitter.code.load(R11, RSP, SLOTS);
                // mov ecx, [r11 + TSC_AUX]
                self.emitter.code.narrow_memory(&[0x8B], RCX, R11, TSC_AUX);
            }
            Reading::ProtectionKeys => self.read_protection_keys(&mut missed),
            Reading::Selector(segment) => {
                self.emitter.code.load(R11, RSP, SLOTS);
                // movzx r10d, word [r11 + ..]
                self.emitter.code.narrow_memory(&[0x0F, 0xB7], R10, R11, selector(segment));
                match item.instruction.op0_register().size() {
                    2 => self.emitter.set_low_word(to),
                    _ => self.emitter.set_register(to, R10),
                }
            }
            Reading::Control(at) => {
                missed.push(self.granted(Grants::SUPERVISOR));
                self.emitter.code.load(R11, RSP, SLOTS);
                self.emitter.code.load(R10, R11, from_slots(at));
                self.emitter.set_register(to, R10);
            }
        }
        for missed in missed {
            self.slow(missed, site, item.last);
        }
    }

    /// The counter into EDX and EAX, when every earlier load has its value, as tier 0 reads it.
    fn read_time_stamp(&mut self) -> Missed {
        let missed = self.granted(Grants::TIME);
        let code = &mut self.emitter.code;
        // lfence; rdtsc
        code.bytes(&[0x0F, 0xAE, 0xE8, 0x0F, 0x31]);
        code.shift_left(RDX, HALF);
        code.add(RAX, RDX);
        code.load(RDX, RSP, TSC_OFFSET);
        code.add(RAX, RDX);
        code.mov(RDX, RAX);
        code.shift_right(RDX, HALF);
        code.mov_low(RAX, RAX);
        missed
    }

    fn read_protection_keys(&mut self, missed: &mut Vec<Missed>) {
        missed.push(self.granted(Grants::KEYS));
        // test ecx, ecx
        self.emitter.code.bytes(&[0x85, 0xC9]);
        let from = self.emitter.code.jump_if(NOT_EQUAL);
        missed.push(self.emitter.missed(from));
        let code = &mut self.emitter.code;
        code.load(R11, RSP, SLOTS);
        // mov eax, [r11 + PKRU]; xor edx, edx
        code.narrow_memory(&[0x8B], RAX, R11, PKRU);
        code.bytes(&[0x31, 0xD2]);
    }
}
