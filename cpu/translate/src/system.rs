//! Short system instructions of 64-bit code, without leaving translated code: CLI, STI, PUSHF, POPF,
//! CLD, CLAC, STAC and SWAPGS.
//!
//! A kernel executes dozens of them in each system call. They change words of the processor that Rust
//! looks at when it has its turn, see [`Words`]; what of it translated code needs is in the frame, too.
//! [`Grants`] says which of them are plain now: whatever can change that is done in Rust. Tier 0 executes
//! the others, or what follows it, as ever.
//!
//! Law: STI is plain only while nothing waits for RFLAGS.IF, and what may wait comes with the kick word;
//! so nothing has to be looked at when the shadow ends. CLAC, STAC, SWAPGS and POPF, which tier 0 executes
//! where it changes RFLAGS.AC, change what addresses mean: no look into the TLB from before holds behind
//! them.

use std::mem::offset_of;

use cpu_defs::{SegReg, cr4, rflags};
use cpu_interp::Cpu;
use cpu_interp::mode::Mode;
use cpu_interp::state::{Arch, Msrs, Segment, Shadow};
use cpu_mmu::{Privilege, tlb_layout};
use iced_x86::{Code, Instruction};

use crate::assemble::{Assembler, CARRY, EQUAL, NO_CARRY, NOT_EQUAL, R10, R11, R15, RSP};
use crate::block::BlockMaker;
use crate::callout::SiteAddress;
use crate::effects::{Item, Kind};
use crate::emit::{GUEST_RSP, Missed, Way};
use crate::flags::FlagState;
use crate::frame::{DOWN, FLAGS, GRANTS, GS_BASE, SCRATCH, SLOTS, TLB};
use crate::instruction::PUSHED;

/// Bytes of a stack slot.
const SLOT: usize = 8;
/// Extension of the opcode for an operation with a constant.
const AND: u8 = 4;
/// Likewise, for an operation on a bit.
const BTS: u8 = 5;
const BTR: u8 = 6;

/// The instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum System {
    Cli,
    Sti,
    Pushf,
    Popf,
    Cld,
    Clac,
    Stac,
    Swapgs,
}

/// Which one it is.
pub(crate) fn system(instruction: &Instruction) -> Option<System> {
    Some(match instruction.code() {
        Code::Cli => System::Cli,
        Code::Sti => System::Sti,
        Code::Pushfq => System::Pushf,
        Code::Popfq => System::Popf,
        Code::Cld => System::Cld,
        Code::Clac => System::Clac,
        Code::Stac => System::Stac,
        Code::Swapgs => System::Swapgs,
        _ => return None,
    })
}

impl System {
    /// Addresses mean something else behind it.
    pub(crate) fn moves_addresses(self) -> bool {
        matches!(self, System::Clac | System::Stac | System::Swapgs | System::Popf)
    }
}

/// Bits of [`crate::frame::Frame::grants`]: what is plain now.
pub(crate) struct Grants;

impl Grants {
    /// CPL 0.
    pub(crate) const SUPERVISOR: u8 = 1;
    /// And nothing waits for RFLAGS.IF.
    const OPEN: u8 = 2;
    /// CPL 0, and RFLAGS.AC chooses the table of translations.
    const ACCESS: u8 = 4;
    /// RDTSC is allowed, and its counter the host's, moved.
    pub(crate) const TIME: u8 = 8;
    /// There are protection keys.
    pub(crate) const KEYS: u8 = 16;

    /// Whether the guest's time-stamp counter is the host's, moved, the caller knows.
    #[inline]
    pub(crate) fn of(cpu: &Cpu, moved: bool) -> u8 {
        let withheld = cpu.arch.cr4 & cr4::TSD != 0 && cpu.arch.cpl != 0;
        let time = if moved && !withheld { Self::TIME } else { 0 };
        let keys = if cpu.arch.cr4 & cr4::PKE == 0 { 0 } else { Self::KEYS };
        if cpu.arch.cpl != 0 {
            return time | keys;
        }
        let open = if cpu.watch_interrupt_flag { 0 } else { Self::OPEN };
        let access = if cpu.arch.cr4 & cr4::SMAP == 0 { 0 } else { Self::ACCESS };
        Self::SUPERVISOR | open | access | time | keys
    }
}

/// Where a word of [`Arch`] is, from [`crate::frame::Frame::slots`].
pub(crate) const fn from_slots(at: usize) -> i32 {
    at as i32 - offset_of!(Arch, slots) as i32
}

/// Where words of the processor are, from there, too.
struct Words;

impl Words {
    const SLOTS: i32 = (offset_of!(Cpu, arch) + offset_of!(Arch, slots)) as i32;
    const RFLAGS: i32 = (offset_of!(Cpu, arch) + offset_of!(Arch, rflags)) as i32 - Self::SLOTS;
    const SHADOW: i32 = (offset_of!(Cpu, arch) + offset_of!(Arch, shadow)) as i32 - Self::SLOTS;
    const PRIVILEGE: i32 =
        (offset_of!(Cpu, mode) + offset_of!(Mode, privilege)) as i32 - Self::SLOTS;
    const GS_BASE: i32 = (offset_of!(Cpu, arch)
        + offset_of!(Arch, seg)
        + SegReg::Gs as usize * size_of::<Segment>()
        + offset_of!(Segment, base)) as i32
        - Self::SLOTS;
    const KERNEL_GS_BASE: i32 =
        (offset_of!(Cpu, arch) + offset_of!(Arch, msrs) + offset_of!(Msrs, kernel_gs_base)) as i32
            - Self::SLOTS;
}

const _: () =
    assert!(Shadow::None as u8 == 0 && Shadow::Sti as u8 == 1, "`sti` makes them of a flag");

/// Between the table for supervisor code with RFLAGS.AC clear and that with it set.
const TABLES: i32 =
    tlb_layout::LEN as i32 * (Privilege::SupervisorAc as i32 - Privilege::Supervisor as i32);

/// Flags that POPF leaves alone if it is plain: a change of one of them needs Rust.
const RUST: u64 = rflags::TF | rflags::DF | rflags::IOPL | rflags::NT | rflags::AC | rflags::ID;

impl BlockMaker {
    /// Whether an instruction in the shadow of STI can be translated.
    pub(crate) fn may_be_shadowed(kind: Kind) -> bool {
        use Kind as K;
        matches!(kind, K::Nothing | K::Copied | K::Lea | K::Push | K::Pop | K::Leave | K::Divide)
    }

    /// Behind an instruction in the shadow of STI.
    pub(crate) fn end_shadow(&mut self) {
        self.emitter.code.load(R11, RSP, SLOTS);
        self.emitter.code.narrow_memory(&[0xC6], 0, R11, Words::SHADOW);
        self.emitter.code.bytes(&[Shadow::None as u8]);
    }

    pub(crate) fn system(&mut self, item: &Item, site: SiteAddress, system: System) {
        self.emitter.save_flags();
        self.emitter.state = FlagState::FRAME;
        let mut missed = Vec::new();
        match system {
            System::Cli => {
                missed.push(self.granted(Grants::SUPERVISOR));
                self.emitter.code.load(R11, RSP, SLOTS);
                self.emitter.code.with_value(AND, R11, Words::RFLAGS, !rflags::IF as u32);
            }
            System::Sti => return self.sti(),
            System::Pushf => missed.push(self.pushf()),
            System::Popf => self.popf(&mut missed),
            System::Cld => {
                self.emitter.code.load(R11, RSP, SLOTS);
                self.emitter.code.with_value(AND, R11, Words::RFLAGS, !rflags::DF as u32);
                self.emitter.code.narrow_memory(&[0xC6], 0, RSP, DOWN);
                self.emitter.code.bytes(&[0]);
            }
            System::Clac | System::Stac => {
                missed.push(self.granted(Grants::ACCESS));
                self.set_access(system == System::Stac);
            }
            System::Swapgs => {
                missed.push(self.granted(Grants::SUPERVISOR));
                self.swapgs();
            }
        }
        for missed in missed {
            self.slow(missed, site, item.last);
        }
    }

    /// Looks whether it is plain.
    pub(crate) fn granted(&mut self, grant: u8) -> Missed {
        // test byte [rsp + GRANTS], grant
        self.emitter.code.narrow_memory(&[0xF6], 0, RSP, GRANTS);
        self.emitter.code.bytes(&[grant]);
        let from = self.emitter.code.jump_if(EQUAL);
        self.emitter.missed(from)
    }

    fn sti(&mut self) {
        let Missed { from, .. } = self.granted(Grants::OPEN);
        self.emitter.tail(from, Way::InterpretRest(self.present));
        let code = &mut self.emitter.code;
        code.load(R11, RSP, SLOTS);
        code.bit_of(BTS, R11, Words::RFLAGS, rflags::IF.trailing_zeros() as u8);
        // setnc [r11 + SHADOW]
        code.narrow_memory(&[0x0F, 0x90 | NO_CARRY], 0, R11, Words::SHADOW);
    }

    fn pushf(&mut self) -> Missed {
        let from = self.push_address();
        let code = &mut self.emitter.code;
        code.load(R10, RSP, SLOTS);
        code.load(R10, R10, Words::RFLAGS);
        code.and(R10, !(rflags::STATUS | rflags::VM | rflags::RF) as u32);
        code.store(RSP, SCRATCH, R10);
        // movzx r10d, byte [rsp + FLAGS]: OF
        code.narrow_memory(&[0x0F, 0xB6], R10, RSP, FLAGS);
        code.shift_left(R10, rflags::OF.trailing_zeros() as u8);
        // or [rsp + SCRATCH], r10d
        code.narrow_memory(&[0x09], R10, RSP, SCRATCH);
        // movzx r10d, byte [rsp + FLAGS + 1]: the others
        code.narrow_memory(&[0x0F, 0xB6], R10, RSP, FLAGS + 1);
        // or r10d, [rsp + SCRATCH]
        code.narrow_memory(&[0x0B], R10, RSP, SCRATCH);
        code.store_indexed(R11, GUEST_RSP, PUSHED, R10);
        self.emitter.move_stack(PUSHED);
        from
    }

    /// Everything that may be in the way comes before the first change.
    fn popf(&mut self, missed: &mut Vec<Missed>) {
        missed.push(self.granted(Grants::OPEN));
        self.emitter.code.mov(R10, GUEST_RSP);
        missed.push(self.access(SLOT, false));
        let code = &mut self.emitter.code;
        code.load_indexed(R10, R11, R10, 0);
        code.store(RSP, SCRATCH, R10);
        code.load(R11, RSP, SLOTS);
        // xor r10d, [r11 + RFLAGS]: what changes
        code.narrow_memory(&[0x33], R10, R11, Words::RFLAGS);
        // test r10d, RUST
        code.bytes(&[0x41, 0xF7, 0xC2]);
        code.bytes(&(RUST as u32).to_le_bytes());
        let from = code.jump_if(NOT_EQUAL);
        missed.push(self.emitter.missed(from));
        let code = &mut self.emitter.code;
        code.and(R10, rflags::IF as u32);
        // xor [r11 + RFLAGS], r10d
        code.narrow_memory(&[0x31], R10, R11, Words::RFLAGS);
        // movzx r10d, byte [rsp + SCRATCH]
        code.narrow_memory(&[0x0F, 0xB6], R10, RSP, SCRATCH);
        code.and(R10, (rflags::STATUS & 0xFF) as u32);
        code.shift_left(R10, 8);
        code.load(R11, RSP, SCRATCH);
        code.shift_right(R11, rflags::OF.trailing_zeros() as u8);
        code.and(R11, 1);
        code.add(R10, R11);
        // mov [rsp + FLAGS], r10w
        code.bytes(&[0x66]);
        code.narrow_memory(&[0x89], R10, RSP, FLAGS);
        self.emitter.move_stack(SLOT as i32);
    }

    /// Sets or clears RFLAGS.AC.
    fn set_access(&mut self, set: bool) {
        let bit = rflags::AC.trailing_zeros() as u8;
        let (operation, no_change, tables, privilege) = match set {
            true => (BTS, CARRY, TABLES, Privilege::SupervisorAc),
            false => (BTR, NO_CARRY, -TABLES, Privilege::Supervisor),
        };
        let code = &mut self.emitter.code;
        code.load(R11, RSP, SLOTS);
        code.bit_of(operation, R11, Words::RFLAGS, bit);
        let same = code.jump_if(no_change);
        code.lea(R15, R15, None, tables);
        code.store(RSP, TLB, R15);
        // mov byte [r11 + PRIVILEGE], privilege
        code.narrow_memory(&[0xC6], 0, R11, Words::PRIVILEGE);
        code.bytes(&[privilege as u8]);
        code.here(same);
    }

    fn swapgs(&mut self) {
        let code = &mut self.emitter.code;
        code.load(R11, RSP, SLOTS);
        code.load(R10, R11, Words::KERNEL_GS_BASE);
        code.store(R11, Words::GS_BASE, R10);
        code.store(RSP, SCRATCH, R10);
        code.load(R10, RSP, GS_BASE);
        code.store(R11, Words::KERNEL_GS_BASE, R10);
        code.load(R10, RSP, SCRATCH);
        code.store(RSP, GS_BASE, R10);
    }
}

impl Assembler {
    /// `or`, `and` and so on, of `dword [base + disp]` and a value
    fn with_value(&mut self, operation: u8, base: u8, disp: i32, value: u32) {
        self.narrow_memory(&[0x81], operation, base, disp);
        self.bytes(&value.to_le_bytes());
    }

    /// `bts` and so on, of a bit of `dword [base + disp]`
    fn bit_of(&mut self, operation: u8, base: u8, disp: i32, bit: u8) {
        self.narrow_memory(&[0x0F, 0xBA], operation, base, disp);
        self.bytes(&[bit]);
    }
}
