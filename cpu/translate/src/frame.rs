//! What translated code keeps on the host's stack, and the conventions between it and Rust.
//!
//! RSP points to the frame. Guest RAX, RCX, RDX, RBX, RBP, RSI, RDI, R8, R12 and R13 are in the host's
//! registers of that name, guest RSP in R9; guest R9, R10, R11, R14 and R15 are in the frame. R14 counts
//! instructions, R15 points to the TLB's table for the present privilege; R10 and R11 are free. The
//! direction flag of the host is clear.
//!
//! Vector registers and MXCSR are the guest's while [`Frame::vectors`] says so, those of x87 while
//! [`Frame::x87`] does, which neither does in Rust.
//!
//! Status flags are in the host's RFLAGS or in [`Frame::flags`]; the translator knows at each
//! instruction where. Translated code is entered and left with them in the frame.

use std::mem::offset_of;
use std::sync::atomic::AtomicU32;

use cpu_defs::{SegReg, rflags};
use cpu_host::FpuState;
use cpu_interp::Cpu;

use crate::callout::Context;
use crate::registers::Registers;
use crate::system::Grants;

/// The words on the stack, in order: those that most code looks at are in reach of a short displacement. The
/// code that enters copies them.
#[derive(Clone, Copy)]
#[repr(C)]
pub(crate) struct Frame {
    /// OF in bit 0, SF, ZF, AF, PF and CF in their places plus 8: what LAHF and SETO make of AX. No
    /// access is longer than they are stored: the host would wait for the store.
    pub flags: u16,
    /// DF.
    pub down: u8,
    /// CF of flags that are lost, see [`crate::again`].
    pub carry: u8,
    /// [`Cpu::code_epoch`].
    pub epoch: u64,
    /// Guest R9, R10, R11, R14 and R15.
    pub spilled: [u64; 5],
    pub fs_base: u64,
    pub gs_base: u64,
    /// Entries of the present privilege.
    pub jumps: *const u64,
    /// Not zero: leave.
    pub kick: *const AtomicU32,
    /// See [`crate::enter`].
    pub callout: usize,
    /// Ways out, see [`crate::enter`]: for RIP in R10;
    pub leave: usize,
    /// for the number of a link in R10D, the flags in the frame or in RFLAGS;
    pub leave_linked: usize,
    pub leave_saving: usize,
    /// A value that lives for one instruction; where to go on after a callout.
    pub scratch: u64,
    /// and for an address in R10 whose page has to be compared.
    pub leave_stale: usize,
    /// For R15.
    pub tlb: *const u8,
    /// Slots of [`cpu_interp::state::Arch`].
    pub slots: *mut u64,
    /// The branch through which translated code was left, if it can be linked; 0: none.
    pub link: u64,
    pub context: *mut Context,
    /// Instructions executed, when translated code is entered or left, and in callouts; in between R14
    /// is. A block counts itself when it is entered; who leaves it early counts back.
    pub count: u64,
    /// What the guest's time-stamp counter is ahead of the host's, if it is plain.
    pub tsc_offset: u64,
    /// Which vector registers of the host are the guest's, see [`crate::registers`].
    pub vectors: u8,
    /// Not 0: those of x87 are.
    pub x87: u8,
    /// System instructions that are plain, see [`crate::system::Grants`].
    pub grants: u8,
    /// Finds the page of the stack, see [`crate::stack`].
    pub find_stack_page: usize,
    /// Has vector registers and those of x87 be the guest's, see [`crate::register_state`].
    pub load_registers: usize,
    /// Where they are otherwise.
    pub fpu: *mut FpuState,
    /// MXCSR of Rust.
    pub host_mxcsr: u64,
}

/// Bytes of a frame.
pub(crate) const FRAME_LEN: usize = size_of::<Frame>();
/// Groups of accesses in a block, see [`crate::group`]. Their addresses are kept above the frame.
pub(crate) const GROUP_SLOTS: usize = 6;
/// Where their pages are kept in a loop, see [`crate::repeat`], begins here.
const PAGES_AT: usize = FRAME_LEN + 8 * GROUP_SLOTS;
/// Bytes of the frame and what is kept above it.
pub(crate) const KEPT_LEN: usize = PAGES_AT + 16 * GROUP_SLOTS;

/// Where the host's address of a group is kept.
pub(crate) fn group_slot(group: usize) -> i32 {
    (FRAME_LEN + 8 * group) as i32
}

/// Where the linear address of a group's page is kept in a loop; behind it is that in this process.
pub(crate) fn page_slot(group: usize) -> i32 {
    (PAGES_AT + 16 * group) as i32
}

pub(crate) const FLAGS: i32 = offset_of!(Frame, flags) as i32;
pub(crate) const DOWN: i32 = offset_of!(Frame, down) as i32;
pub(crate) const CARRY: i32 = offset_of!(Frame, carry) as i32;
pub(crate) const TSC_OFFSET: i32 = offset_of!(Frame, tsc_offset) as i32;
pub(crate) const EPOCH: i32 = offset_of!(Frame, epoch) as i32;
pub(crate) const FS_BASE: i32 = offset_of!(Frame, fs_base) as i32;
pub(crate) const GS_BASE: i32 = offset_of!(Frame, gs_base) as i32;
pub(crate) const JUMPS: i32 = offset_of!(Frame, jumps) as i32;
pub(crate) const KICK: i32 = offset_of!(Frame, kick) as i32;
pub(crate) const CALLOUT: i32 = offset_of!(Frame, callout) as i32;
pub(crate) const LEAVE: i32 = offset_of!(Frame, leave) as i32;
pub(crate) const LEAVE_LINKED: i32 = offset_of!(Frame, leave_linked) as i32;
pub(crate) const LEAVE_SAVING: i32 = offset_of!(Frame, leave_saving) as i32;
pub(crate) const LEAVE_STALE: i32 = offset_of!(Frame, leave_stale) as i32;
pub(crate) const SCRATCH: i32 = offset_of!(Frame, scratch) as i32;
pub(crate) const VECTORS: i32 = offset_of!(Frame, vectors) as i32;
pub(crate) const X87: i32 = offset_of!(Frame, x87) as i32;
pub(crate) const CONTEXT: i32 = offset_of!(Frame, context) as i32;
pub(crate) const LOAD_REGISTERS: i32 = offset_of!(Frame, load_registers) as i32;
pub(crate) const FIND_STACK_PAGE: i32 = offset_of!(Frame, find_stack_page) as i32;
pub(crate) const SLOTS: i32 = offset_of!(Frame, slots) as i32;
pub(crate) const TLB: i32 = offset_of!(Frame, tlb) as i32;
pub(crate) const GRANTS: i32 = offset_of!(Frame, grants) as i32;
pub(crate) const LINK: i32 = offset_of!(Frame, link) as i32;

/// Guest registers in the frame, in the order of [`Frame::spilled`].
pub(crate) const SPILLED: [u8; 5] = [9, 10, 11, 14, 15];

/// Where a guest register is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// In this register of the host.
    Host(u8),
    /// At this offset of the frame.
    Frame(i32),
}

/// Where the guest register `number` is.
pub(crate) fn place(number: u8) -> Place {
    match SPILLED.iter().position(|&spilled| spilled == number) {
        Some(at) => Place::Frame((offset_of!(Frame, spilled) + 8 * at) as i32),
        None if number == 4 => Place::Host(9),
        None => Place::Host(number),
    }
}

/// SF, ZF, AF, PF and CF.
const LOW_FLAGS: u64 = 0xD5;
const OF: u64 = 1 << 11;

impl Frame {
    /// Puts in what translated code looks at. `jumps` are those of the present privilege.
    #[inline]
    pub(crate) fn refresh(&mut self, cpu: &Cpu, jumps: *const u64) {
        self.take_flags(cpu);
        self.tlb = cpu.memory.tlb.table(cpu.mode.privilege);
        self.fs_base = cpu.arch.segment(SegReg::Fs).base;
        self.gs_base = cpu.arch.segment(SegReg::Gs).base;
        self.jumps = jumps;
        self.epoch = cpu.code_epoch.into();
        let ahead = cpu.tsc_ahead_of_host();
        self.tsc_offset = ahead.unwrap_or(0);
        self.grants = Grants::of(cpu, ahead.is_some());
    }

    /// Instructions that were counted have not been executed.
    #[inline]
    pub(crate) fn take_back(&mut self, instructions: u64) {
        self.count = self.count.wrapping_sub(instructions);
    }

    /// What the thunks are to load.
    #[inline]
    pub(crate) fn set_loaded(&mut self, registers: Registers) {
        (self.vectors, self.x87) = (registers.vectors, registers.x87.into());
    }

    /// Takes the status flags from RFLAGS.
    #[inline]
    pub(crate) fn take_flags(&mut self, cpu: &Cpu) {
        let flags = cpu.arch.rflags;
        self.flags = ((flags & LOW_FLAGS) << 8) as u16 | u16::from(flags & OF != 0);
        self.down = (flags & rflags::DF != 0).into();
    }

    /// Puts the status flags into RFLAGS.
    #[inline]
    pub(crate) fn give_flags(&self, cpu: &mut Cpu) {
        let flags = u64::from(self.flags);
        let flags = (flags >> 8) & LOW_FLAGS | (flags & 1) << 11;
        cpu.arch.rflags = cpu.arch.rflags & !rflags::STATUS | flags;
    }
}
