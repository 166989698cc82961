//! The code around an instruction: load what it uses, execute it, store what it changed.
//!
//! A snippet is called with RDI pointing to the [`crate::FpuState`] and RSI to the
//! [`crate::Exchange`], and returns 0 in EAX. Vector registers are moved at the host's full width:
//! legacy SSE instructions keep the upper parts of their destination, others clear them.

use std::mem::offset_of;

use iced_x86::{Code, Encoder, IcedError, Instruction, MemoryOperand, Register};

use crate::rewrite::{CELLS, EXCHANGE, Rewritten, STATE};
use crate::{Exchange, FpuState};

/// How the host moves whole registers.
#[derive(Clone, Copy)]
pub(crate) struct Moves {
    vector: VectorMoves,
    wide_masks: bool,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum VectorMoves {
    Xmm,
    Ymm,
    Zmm,
}

impl Moves {
    pub(crate) fn of_host() -> Self {
        let vector = if is_x86_feature_detected!("avx512f") {
            VectorMoves::Zmm
        } else if is_x86_feature_detected!("avx") {
            VectorMoves::Ymm
        } else {
            VectorMoves::Xmm
        };
        Moves { vector, wide_masks: is_x86_feature_detected!("avx512bw") }
    }

    fn vector(self, number: u8) -> (Register, Code, Code) {
        let number = u32::from(number);
        match self.vector {
            VectorMoves::Xmm => {
                (Register::XMM0 + number, Code::Movups_xmm_xmmm128, Code::Movups_xmmm128_xmm)
            }
            VectorMoves::Ymm => (
                Register::YMM0 + number,
                Code::VEX_Vmovdqu_ymm_ymmm256,
                Code::VEX_Vmovdqu_ymmm256_ymm,
            ),
            VectorMoves::Zmm => (
                Register::ZMM0 + number,
                Code::EVEX_Vmovdqa64_zmm_k1z_zmmm512,
                Code::EVEX_Vmovdqa64_zmmm512_k1z_zmm,
            ),
        }
    }

    fn mask(self) -> (Code, Code) {
        if self.wide_masks {
            (Code::VEX_Kmovq_kr_km64, Code::VEX_Kmovq_m64_kr)
        } else {
            (Code::VEX_Kmovw_kr_km16, Code::VEX_Kmovw_m16_kr)
        }
    }
}

/// The code of a snippet.
pub(crate) fn snippet(moves: Moves, body: &Rewritten) -> Result<Vec<u8>, IcedError> {
    let mut emitter = Emitter { encoder: Encoder::new(64) };
    emitter.loads(moves, body)?;
    let mut code = emitter.encoder.take_buffer();
    code.extend_from_slice(&body.code);
    let mut emitter = Emitter { encoder: Encoder::new(64) };
    emitter.stores(moves, body)?;
    code.append(&mut emitter.encoder.take_buffer());
    Ok(code)
}

/// The end of a snippet whose instruction faulted: the vector of the exception is in EAX.
pub(crate) fn stub(moves: Moves) -> Result<Vec<u8>, IcedError> {
    let mut emitter = Emitter { encoder: Encoder::new(64) };
    emitter.swap_mxcsr_back()?;
    emitter.emit(&Instruction::with(Code::Fninit))?;
    emitter.finish(moves)?;
    Ok(emitter.encoder.take_buffer())
}

struct Emitter {
    encoder: Encoder,
}

impl Emitter {
    fn emit(&mut self, instruction: &Instruction) -> Result<(), IcedError> {
        self.encoder.encode(instruction, 0).map(|_| ())
    }

    fn loads(&mut self, moves: Moves, body: &Rewritten) -> Result<(), IcedError> {
        // Before FXRSTOR, which loads the guest's.
        let own = exchange(offset_of!(Exchange, host_mxcsr));
        self.emit(&Instruction::with1(Code::Stmxcsr_m32, own)?)?;
        if body.x87 {
            self.emit(&Instruction::with1(Code::Fxrstor64_m512byte, legacy())?)?;
        }
        for vector in &body.vectors {
            let (register, load, _) = moves.vector(vector.number);
            self.emit(&Instruction::with2(load, register, zmm(vector.number))?)?;
        }
        for mask in &body.masks {
            let register = Register::K0 + u32::from(mask.number);
            self.emit(&Instruction::with2(moves.mask().0, register, opmask(mask.number))?)?;
        }
        let guest = exchange(offset_of!(Exchange, mxcsr));
        self.emit(&Instruction::with1(Code::Ldmxcsr_m32, guest)?)?;
        if body.reads_flags {
            let flags = exchange(offset_of!(Exchange, flags));
            self.emit(&Instruction::with1(Code::Push_rm64, flags)?)?;
            self.emit(&Instruction::with(Code::Popfq))?;
        }
        for gpr in &body.gprs {
            let register = CELLS[usize::from(gpr.cell)];
            self.emit(&Instruction::with2(Code::Mov_r64_rm64, register, cell(gpr.cell))?)?;
        }
        Ok(())
    }

    fn stores(&mut self, moves: Moves, body: &Rewritten) -> Result<(), IcedError> {
        for gpr in body.gprs.iter().filter(|gpr| gpr.written) {
            let register = CELLS[usize::from(gpr.cell)];
            self.emit(&Instruction::with2(Code::Mov_rm64_r64, cell(gpr.cell), register)?)?;
        }
        if body.writes_flags {
            self.emit(&Instruction::with(Code::Pushfq))?;
            let flags = exchange(offset_of!(Exchange, flags));
            self.emit(&Instruction::with1(Code::Pop_rm64, flags)?)?;
        }
        self.swap_mxcsr_back()?;
        for vector in body.vectors.iter().filter(|vector| vector.written) {
            let (register, _, store) = moves.vector(vector.number);
            self.emit(&Instruction::with2(store, zmm(vector.number), register)?)?;
        }
        for mask in body.masks.iter().filter(|mask| mask.written) {
            let register = Register::K0 + u32::from(mask.number);
            self.emit(&Instruction::with2(moves.mask().1, opmask(mask.number), register)?)?;
        }
        if body.x87 {
            self.emit(&Instruction::with1(Code::Fxsave64_m512byte, legacy())?)?;
            self.emit(&Instruction::with(Code::Fninit))?;
        }
        self.emit(&Instruction::with2(Code::Xor_r32_rm32, Register::EAX, Register::EAX)?)?;
        self.finish(moves)
    }

    fn swap_mxcsr_back(&mut self) -> Result<(), IcedError> {
        let guest = exchange(offset_of!(Exchange, mxcsr));
        self.emit(&Instruction::with1(Code::Stmxcsr_m32, guest)?)?;
        let own = exchange(offset_of!(Exchange, host_mxcsr));
        self.emit(&Instruction::with1(Code::Ldmxcsr_m32, own)?)
    }

    fn finish(&mut self, moves: Moves) -> Result<(), IcedError> {
        if moves.vector != VectorMoves::Xmm {
            self.emit(&Instruction::with(Code::VEX_Vzeroupper))?;
        }
        self.emit(&Instruction::with(Code::Retnq))
    }
}

fn exchange(offset: usize) -> MemoryOperand {
    MemoryOperand::with_base_displ(EXCHANGE, offset as i64)
}

fn cell(number: u8) -> MemoryOperand {
    exchange(offset_of!(Exchange, gpr) + usize::from(number) * 8)
}

fn legacy() -> MemoryOperand {
    MemoryOperand::with_base_displ(STATE, offset_of!(FpuState, legacy) as i64)
}

fn zmm(number: u8) -> MemoryOperand {
    let offset = offset_of!(FpuState, zmm) + usize::from(number) * 64;
    MemoryOperand::with_base_displ(STATE, offset as i64)
}

fn opmask(number: u8) -> MemoryOperand {
    let offset = offset_of!(FpuState, opmask) + usize::from(number) * 8;
    MemoryOperand::with_base_displ(STATE, offset as i64)
}
