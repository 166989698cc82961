//! Snippets of one processor: made once for each rewritten instruction, called with its registers.
//!
//! `unsafe`: the call, and CPUID as a serializing instruction.
#![allow(unsafe_code)]

use std::arch::asm;
use std::arch::x86_64::__cpuid;
use std::collections::HashMap;

use iced_x86::Instruction;

use crate::arena::Arena;
use crate::emit::{Moves, snippet, stub};
use crate::rewrite::{GprUse, MemoryUse, Refusal, rewrite};
use crate::{FpuState, MXCSR, MXCSR_MASK, install_sigfpe_guard};

/// Bytes of the buffer that stands for a memory operand.
pub const MEMORY_LEN: usize = 128;
/// MXCSR bits that every host can load.
const MXCSR_LOADABLE: u32 = 0xFFFF;
/// Room that [`Snippets::is_full`] wants to see: a block of instructions.
const SPARE: usize = 1 << 16;
/// RFLAGS bits that go in: the status flags.
const STATUS_FLAGS: u64 = 0x8D5;
/// RFLAGS as Rust has it: bit 1, and IF, which POPF at CPL 3 ignores.
const HOST_FLAGS: u64 = 0x202;

/// What goes in and comes out beside the [`FpuState`].
#[derive(Clone, Debug)]
#[repr(C, align(64))]
pub struct Exchange {
    /// The memory operand, loaded before and stored behind by the caller.
    pub memory: [u8; MEMORY_LEN],
    /// General registers, see [`GprUse`].
    pub gpr: [u64; 4],
    /// RFLAGS; only the status flags go in.
    pub flags: u64,
    pub(crate) mxcsr: u32,
    pub(crate) host_mxcsr: u32,
}

impl Exchange {
    /// All zero.
    #[must_use]
    pub fn new() -> Self {
        Exchange { memory: [0; MEMORY_LEN], gpr: [0; 4], flags: 0, mxcsr: 0, host_mxcsr: 0 }
    }
}

impl Default for Exchange {
    fn default() -> Self {
        Self::new()
    }
}

/// How a snippet ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// The instruction is done.
    Done,
    /// It raised this exception (vector 16 or 19) and changed nothing but the flags in MXCSR.
    Faulted(u8),
}

/// A snippet and what it wants from its caller.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Snippet {
    number: u32,
    /// The memory operand, in [`Exchange::memory`].
    pub memory: MemoryUse,
    /// General registers to put into [`Exchange::gpr`] and to take from there.
    pub gprs: [Option<GprUse>; 3],
    /// It uses the x87 registers (or MMX, which are the same).
    pub x87: bool,
    /// [`Exchange::flags`] goes in.
    pub reads_flags: bool,
    /// [`Exchange::flags`] comes out.
    pub writes_flags: bool,
}

/// The snippets of one processor.
pub struct Snippets {
    moves: Moves,
    arena: Option<Arena>,
    /// Where each snippet starts in the arena, by number.
    starts: Vec<usize>,
    by_code: HashMap<Vec<u8>, u32>,
    /// Code was written since the processor last serialized.
    stale: bool,
}

impl Snippets {
    /// None yet; memory is taken at the first [`Self::make`].
    #[must_use]
    pub fn new() -> Self {
        Snippets {
            moves: Moves::of_host(),
            arena: None,
            starts: Vec::new(),
            by_code: HashMap::new(),
            stale: false,
        }
    }

    /// The snippet that executes `instruction` (decoded for any code size).
    ///
    /// # Errors
    /// [`Refusal`].
    pub fn make(&mut self, instruction: &Instruction) -> Result<Snippet, Refusal> {
        let body = rewrite(instruction)?;
        if body.gprs.len() > 3 {
            return Err(Refusal::Operands);
        }
        let code = snippet(self.moves, &body).map_err(|_| Refusal::Operands)?;
        let number = self.place(code)?;
        let mut gprs = [None; 3];
        for (place, gpr) in gprs.iter_mut().zip(&body.gprs) {
            *place = Some(*gpr);
        }
        Ok(Snippet {
            number,
            memory: body.memory,
            gprs,
            x87: body.x87,
            reads_flags: body.reads_flags,
            writes_flags: body.writes_flags,
        })
    }

    fn place(&mut self, code: Vec<u8>) -> Result<u32, Refusal> {
        if let Some(&number) = self.by_code.get(&code) {
            return Ok(number);
        }
        if self.arena.is_none() {
            install_sigfpe_guard().map_err(|_| Refusal::NoRoom)?;
            let stub = stub(self.moves).map_err(|_| Refusal::NoRoom)?;
            self.arena = Some(Arena::new(&stub).map_err(|_| Refusal::NoRoom)?);
        }
        let start =
            self.arena.as_mut().and_then(|arena| arena.push(&code)).ok_or(Refusal::NoRoom)?;
        let number = self.starts.len() as u32;
        self.starts.push(start);
        self.stale = true;
        self.by_code.insert(code, number);
        Ok(number)
    }

    /// Whether it is time to [`clear`](Self::clear): the snippets of another block of
    /// instructions may not fit.
    #[must_use]
    pub fn is_full(&self) -> bool {
        self.arena.as_ref().is_some_and(|arena| arena.room() < SPARE)
    }

    /// Forgets every snippet. The caller forgets every [`Snippet`] of ours.
    pub fn clear(&mut self) {
        self.by_code.clear();
        self.starts.clear();
        if let Some(arena) = &mut self.arena {
            arena.clear();
        }
    }

    /// Executes a snippet that [`Self::make`] of this value made since the last clear. (Another
    /// one may execute some other instruction, or nothing.)
    pub fn run(
        &mut self,
        snippet: &Snippet,
        state: &mut FpuState,
        exchange: &mut Exchange,
    ) -> Outcome {
        let start = self.starts.get(snippet.number as usize);
        let arena = self.arena.as_ref();
        let Some(entry) = start.zip(arena).and_then(|(&start, arena)| arena.entry(start)) else {
            return Outcome::Done;
        };
        if self.stale {
            // Code written through another address is executed only after this.
            __cpuid(0);
            self.stale = false;
        }
        let (mxcsr, mask) = (state.u32(MXCSR), state.u32(MXCSR_MASK));
        exchange.mxcsr = mxcsr & MXCSR_LOADABLE;
        exchange.flags = (exchange.flags & STATUS_FLAGS) | HOST_FLAGS;
        if snippet.x87 {
            // FXRSTOR refuses reserved bits; FXSAVE writes the host's mask.
            state.set_u32(MXCSR, exchange.mxcsr);
        }
        let vector: u64;
        // SAFETY: `entry` is the start of a complete snippet: numbers count whole snippets, and
        // the arena lives as long as `self`. It touches
        // nothing but the two structures, which are exclusively borrowed, and leaves the state
        // that the C ABI preserves as it was; a fault in it ends at the arena's stub.
        unsafe {
            asm!(
                "call {entry}",
                entry = in(reg) entry,
                inlateout("rdi") std::ptr::from_mut(state) => _,
                inlateout("rsi") std::ptr::from_mut(exchange) => _,
                lateout("rax") vector,
                clobber_abi("sysv64"),
            );
        }
        state.set_u32(MXCSR, exchange.mxcsr | (mxcsr & !MXCSR_LOADABLE));
        state.set_u32(MXCSR_MASK, mask);
        match vector {
            0 => Outcome::Done,
            vector => Outcome::Faulted(vector as u8),
        }
    }
}

impl Default for Snippets {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use iced_x86::{Decoder, DecoderOptions};

    /// A processor's registers with the snippets to change them.
    struct Host {
        snippets: Snippets,
        state: FpuState,
        exchange: Exchange,
    }

    impl Host {
        fn new() -> Self {
            let mut state = FpuState::at_reset();
            state.init_x87();
            for (number, register) in state.zmm.iter_mut().enumerate() {
                for (at, byte) in register.iter_mut().enumerate() {
                    *byte = (number * 64 + at) as u8;
                }
            }
            Host { snippets: Snippets::new(), state, exchange: Exchange::new() }
        }

        fn run(&mut self, bits: u32, code: &[u8]) -> (Snippet, Outcome) {
            let instruction = Decoder::new(bits, code, DecoderOptions::NONE).decode();
            let snippet = self.snippets.make(&instruction).expect("the host has it");
            let outcome = self.snippets.run(&snippet, &mut self.state, &mut self.exchange);
            (snippet, outcome)
        }
    }

    /// `addps xmm1, xmm2`
    const ADDPS: [u8; 3] = [0x0F, 0x58, 0xCA];
    /// `divps xmm1, xmm2`
    const DIVPS: [u8; 3] = [0x0F, 0x5E, 0xCA];
    /// `vaddps xmm1, xmm1, xmm2`
    const VADDPS: [u8; 4] = [0xC5, 0xF0, 0x58, 0xCA];

    fn floats(values: [f32; 4]) -> [u8; 16] {
        let mut bytes = [0; 16];
        for (place, value) in bytes.chunks_exact_mut(4).zip(values) {
            place.copy_from_slice(&value.to_le_bytes());
        }
        bytes
    }

    #[test]
    fn legacy_sse_keeps_the_upper_part_of_its_destination_and_vex_clears_it() {
        for (code, upper) in [(&ADDPS[..], 64 + 16), (&VADDPS[..], 0)] {
            let mut host = Host::new();
            host.state.zmm[1][..16].copy_from_slice(&floats([1.0, 2.0, 3.0, 4.0]));
            host.state.zmm[2][..16].copy_from_slice(&floats([0.5; 4]));
            let before = host.state.clone();
            assert_eq!(host.run(64, code).1, Outcome::Done);
            assert_eq!(host.state.zmm[1][..16], floats([1.5, 2.5, 3.5, 4.5]));
            assert_eq!(host.state.zmm[1][16], upper);
            assert_eq!(host.state.zmm[1][63], if upper == 0 { 0 } else { 127 });
            assert_eq!(host.state.zmm[2..], before.zmm[2..]);
            assert_eq!(host.state.zmm[0], before.zmm[0]);
        }
    }

    #[test]
    fn a_masked_exception_sets_its_flag_and_an_unmasked_one_faults() {
        let mut host = Host::new();
        host.state.zmm[2][..16].fill(0);
        host.state.zmm[1][..16].copy_from_slice(&floats([1.0; 4]));
        assert_eq!(host.run(64, &DIVPS).1, Outcome::Done);
        assert_eq!(host.state.u32(MXCSR), 0x1F84);
        assert_eq!(host.state.zmm[1][..16], floats([f32::INFINITY; 4]));

        host.state.set_u32(MXCSR, 0x1D80);
        host.state.zmm[1][..16].copy_from_slice(&floats([1.0; 4]));
        let before = host.state.clone();
        assert_eq!(host.run(64, &DIVPS).1, Outcome::Faulted(19));
        assert_eq!(host.state.u32(MXCSR), 0x1D84);
        assert_eq!(host.state.zmm, before.zmm);
    }

    #[test]
    fn faults_of_many_threads_end_where_they_happened() {
        let divide = |turns: usize| {
            let mut host = Host::new();
            host.state.zmm[2][..16].fill(0);
            for _ in 0..turns {
                host.state.set_u32(MXCSR, 0x1D80);
                assert_eq!(host.run(64, &DIVPS).1, Outcome::Faulted(19));
            }
        };
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| divide(50));
            }
        });
    }

    #[test]
    fn the_host_mxcsr_and_x87_state_survive() {
        let mut host = Host::new();
        host.state.set_u32(MXCSR, 0xFF80);
        // paddb mm1, mm2
        assert_eq!(host.run(64, &[0x0F, 0xFC, 0xCA]).1, Outcome::Done);
        assert_eq!(host.state.u32(MXCSR), 0xFF80);
        // Under the guest's flush to zero and rounding up this would not be exact.
        assert_eq!(std::hint::black_box(1.0_f64) / 3.0, 0.333_333_333_333_333_3);
        assert!(std::hint::black_box(f32::MIN_POSITIVE) / 2.0 > 0.0);
        assert_eq!((host.state.u16(crate::FSW), host.state.legacy[crate::FTW]), (0, 0xFF));
    }

    #[test]
    fn a_pending_x87_exception_faults_an_mmx_instruction() {
        let mut host = Host::new();
        host.state.set_u16(crate::FCW, 0x37E);
        host.state.set_u16(crate::FSW, 0x8081);
        let before = host.state.clone();
        assert_eq!(host.run(64, &[0x0F, 0xFC, 0xCA]).1, Outcome::Faulted(16));
        assert_eq!(host.state, before);
    }

    #[test]
    fn operands_in_memory_and_general_registers_go_through_the_exchange() {
        let mut host = Host::new();
        // movdqu xmm3, [bx+si] in 16-bit code
        host.exchange.memory[..16].fill(0x5A);
        let (snippet, _) = host.run(16, &[0xF3, 0x0F, 0x6F, 0x18]);
        assert_eq!((snippet.memory, snippet.gprs), (MemoryUse::Read, [None; 3]));
        assert_eq!(host.state.zmm[3][..16], [0x5A; 16]);
        // movd esi, xmm3
        let (snippet, _) = host.run(32, &[0x66, 0x0F, 0x7E, 0xDE]);
        assert_eq!(snippet.gprs[0], Some(GprUse { cell: 0, register: 6, written: true }));
        assert_eq!(host.exchange.gpr[0], 0x5A5A_5A5A);
        // pcmpestri xmm3, [rax], 0
        host.exchange.gpr = [0, 16, 16, 0];
        let (snippet, _) = host.run(64, &[0x66, 0x0F, 0x3A, 0x61, 0x18, 0]);
        assert!(snippet.writes_flags && snippet.gprs.iter().all(Option::is_some));
        assert_eq!((host.exchange.gpr[3], host.exchange.flags & 0x8D5), (0, 0x801));
    }

    #[test]
    fn what_touches_more_than_registers_is_refused() {
        let mut snippets = Snippets::new();
        let cases: [&[u8]; 6] = [
            &[0x0F, 0xF7, 0xCA],                   // maskmovq mm1, mm2
            &[0x0F, 0x05],                         // syscall
            &[0xC3],                               // ret
            &[0x0F, 0xAE, 0x00],                   // fxsave [rax]
            &[0x66, 0x0F, 0x3A, 0x60, 0x00],       // truncated
            &[0xC4, 0xE2, 0x69, 0x92, 0x0C, 0x98], // vgatherdps xmm1, [rax+xmm3*4], xmm2
        ];
        for code in cases {
            let instruction = Decoder::new(64, code, DecoderOptions::NONE).decode();
            assert!(snippets.make(&instruction).is_err(), "{code:02x?}");
        }
    }

    #[test]
    fn an_emptied_arena_is_used_again() {
        let mut host = Host::new();
        let mut made = 0_u32;
        while !host.snippets.is_full() {
            // vpternlogd zmm1, zmm2, zmm3, made; the third register varies, too
            let code = [0x62, 0xF3, 0x6D, 0x48, 0x25, 0xC8 | (made >> 8 & 7) as u8, made as u8];
            let instruction = Decoder::new(64, &code, DecoderOptions::NONE).decode();
            if host.snippets.make(&instruction).is_err() {
                return; // no AVX-512 here
            }
            made += 1;
            if made == 2048 {
                break;
            }
        }
        host.snippets.clear();
        host.state.zmm[1][..16].copy_from_slice(&floats([1.0; 4]));
        host.state.zmm[2][..16].copy_from_slice(&floats([2.0; 4]));
        assert_eq!(host.run(64, &ADDPS).1, Outcome::Done);
        assert_eq!(host.state.zmm[1][..16], floats([3.0; 4]));
    }
}
