//! From a guest's instruction to one that the host may execute: registers and memory operand in
//! fixed places, and proof that it uses nothing else.

use iced_x86::{
    Code, CodeSize, CpuidFeature, Decoder, DecoderOptions, Encoder, FlowControl, Instruction,
    InstructionInfoFactory, OpAccess, OpKind, Register, RflagsBits,
};

use crate::features::host_has;

/// Base of the memory operand and of everything in the [`crate::Exchange`].
pub(crate) const EXCHANGE: Register = Register::RSI;
/// Pointer to the [`crate::FpuState`].
pub(crate) const STATE: Register = Register::RDI;

/// Where an explicit general register operand goes.
const EXPLICIT: Register = Register::R8;
/// Host register of each cell of [`crate::Exchange::gpr`]: an explicit operand and implicit ones.
pub(crate) const CELLS: [Register; 4] = [EXPLICIT, Register::RAX, Register::RDX, Register::RCX];

/// The decoder's bits of the status flags; beside them it has C0 to C3 of x87.
const STATUS_FLAGS: u32 = RflagsBits::OF
    | RflagsBits::SF
    | RflagsBits::ZF
    | RflagsBits::AF
    | RflagsBits::CF
    | RflagsBits::PF;

/// Why an instruction is not executed by the host.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// The host's processor does not have it.
    NoSuchInstruction,
    /// It touches more than registers and one memory operand.
    Operands,
    /// No memory for snippets, or the arena is full.
    NoRoom,
}

/// A general register of the guest in a cell of [`crate::Exchange::gpr`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GprUse {
    /// Index in [`crate::Exchange::gpr`].
    pub cell: u8,
    /// Number of the guest's register, 0 to 15.
    pub register: u8,
    /// The cell has a new value afterwards.
    pub written: bool,
}

/// What an instruction does with its memory operand.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum MemoryUse {
    /// It has none.
    None,
    /// Loads it.
    Read,
    /// Stores it.
    Write,
}

/// A register of the guest's that is loaded before and, if written, stored behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct RegisterUse {
    pub number: u8,
    pub written: bool,
}

/// An instruction in the host's terms.
pub(crate) struct Rewritten {
    pub code: Vec<u8>,
    pub memory: MemoryUse,
    pub vectors: Vec<RegisterUse>,
    pub masks: Vec<RegisterUse>,
    pub gprs: Vec<GprUse>,
    pub x87: bool,
    pub reads_flags: bool,
    pub writes_flags: bool,
}

/// Whether the host has `instruction`, and it uses nothing but registers, status flags and at most one
/// memory operand.
#[must_use]
pub fn is_executable(instruction: &Instruction) -> bool {
    rewrite(instruction).is_ok()
}

/// Rewrites `guest` for the host.
///
/// # Errors
/// [`Refusal`].
pub(crate) fn rewrite(guest: &Instruction) -> Result<Rewritten, Refusal> {
    if !guest.cpuid_features().iter().all(|&feature| host_has(feature)) {
        return Err(Refusal::NoSuchInstruction);
    }
    let mut moved = *guest;
    let explicit = move_operands(&mut moved)?;
    let mut encoder = Encoder::new(64);
    encoder.encode(&moved, 0).map_err(|_| Refusal::Operands)?;
    let code = encoder.take_buffer();
    let encoded = Decoder::new(64, &code, DecoderOptions::NONE).decode();
    if encoded.code() != guest.code() || encoded.len() != code.len() {
        return Err(Refusal::Operands);
    }
    let mut rewritten = Rewritten {
        code,
        memory: memory_use(&encoded)?,
        vectors: Vec::new(),
        masks: Vec::new(),
        gprs: Vec::new(),
        x87: false,
        reads_flags: encoded.rflags_read() & STATUS_FLAGS != 0,
        writes_flags: encoded.rflags_modified() & STATUS_FLAGS != 0,
    };
    collect_registers(&encoded, explicit, &mut rewritten)?;
    Ok(rewritten)
}

/// Puts the memory operand at [`EXCHANGE`] and a general register operand into [`EXPLICIT`];
/// returns which one that was.
fn move_operands(instruction: &mut Instruction) -> Result<Option<Register>, Refusal> {
    let mut explicit = None;
    instruction.set_code_size(CodeSize::Code64);
    instruction.set_has_rep_prefix(false);
    instruction.set_has_repne_prefix(false);
    instruction.set_segment_prefix(Register::None);
    for number in 0..instruction.op_count() {
        match instruction.op_kind(number) {
            OpKind::Register => {
                let register = instruction.op_register(number);
                if !register.is_gpr() {
                    continue;
                }
                let whole = register.full_register();
                if explicit.is_some_and(|other| other != whole) {
                    return Err(Refusal::Operands);
                }
                explicit = Some(whole);
                let moved = match register.size() {
                    4 => Register::R8D,
                    8 => Register::R8,
                    // Only FNSTSW has a 16-bit one, and that is fixed.
                    _ => return Err(Refusal::Operands),
                };
                instruction.set_op_register(number, moved);
            }
            OpKind::Memory => {
                instruction.set_memory_base(EXCHANGE);
                instruction.set_memory_index(Register::None);
                instruction.set_memory_index_scale(1);
                instruction.set_memory_displacement64(0);
                instruction.set_memory_displ_size(0);
            }
            OpKind::Immediate8 | OpKind::Immediate8_2nd => {}
            _ => return Err(Refusal::Operands),
        }
    }
    Ok(explicit)
}

/// The memory operand's use, if it is the only memory that `encoded` touches.
fn memory_use(encoded: &Instruction) -> Result<MemoryUse, Refusal> {
    let mut factory = InstructionInfoFactory::new();
    let info = factory.info(encoded);
    let mut found = MemoryUse::None;
    for used in info.used_memory() {
        let fixed = used.base() == EXCHANGE
            && used.index() == Register::None
            && used.displacement() == 0
            && used.memory_size().size() <= crate::MEMORY_LEN;
        if !fixed || found != MemoryUse::None {
            return Err(Refusal::Operands);
        }
        found = match used.access() {
            OpAccess::Read | OpAccess::CondRead => MemoryUse::Read,
            // A masked store also reads what it leaves, in the decoder's view.
            OpAccess::Write
            | OpAccess::CondWrite
            | OpAccess::ReadWrite
            | OpAccess::ReadCondWrite => MemoryUse::Write,
            OpAccess::None | OpAccess::NoMemAccess => MemoryUse::None,
        };
    }
    Ok(found)
}

fn collect_registers(
    encoded: &Instruction,
    explicit: Option<Register>,
    rewritten: &mut Rewritten,
) -> Result<(), Refusal> {
    let is_x87 = |feature: &CpuidFeature| {
        use CpuidFeature::{FPU, FPU287, FPU387};
        matches!(feature, FPU | FPU287 | FPU387)
    };
    rewritten.x87 = encoded.cpuid_features().iter().any(is_x87) || encoded.code() == Code::Emms;
    if encoded.flow_control() != FlowControl::Next || encoded.is_stack_instruction() {
        return Err(Refusal::Operands);
    }
    let mut factory = InstructionInfoFactory::new();
    for used in factory.info(encoded).used_registers() {
        let register = used.register();
        let written = matches!(
            used.access(),
            OpAccess::Write | OpAccess::CondWrite | OpAccess::ReadWrite | OpAccess::ReadCondWrite
        );
        let number = register.number() as u8;
        if register.is_vector_register() {
            note(&mut rewritten.vectors, number, written);
        } else if register.is_k() {
            note(&mut rewritten.masks, number, written);
        } else if register.is_mm() || register.is_st() {
            rewritten.x87 = true;
        } else if register.is_gpr() {
            note_gpr(&mut rewritten.gprs, register.full_register(), written, explicit, encoded)?;
        } else if written || !register.is_segment_register() {
            return Err(Refusal::Operands);
        }
    }
    Ok(())
}

fn note(uses: &mut Vec<RegisterUse>, number: u8, written: bool) {
    match uses.iter_mut().find(|other| other.number == number) {
        Some(other) => other.written |= written,
        None => uses.push(RegisterUse { number, written }),
    }
}

fn note_gpr(
    uses: &mut Vec<GprUse>,
    register: Register,
    written: bool,
    explicit: Option<Register>,
    encoded: &Instruction,
) -> Result<(), Refusal> {
    if register == EXCHANGE && !written && encoded.memory_base() == EXCHANGE {
        return Ok(());
    }
    let cell = CELLS.iter().position(|&host| host == register).ok_or(Refusal::Operands)?;
    let guest = match explicit {
        Some(guest) if register == EXPLICIT => guest,
        _ => register,
    };
    let cell = cell as u8;
    match uses.iter_mut().find(|other| other.cell == cell) {
        Some(other) => other.written |= written,
        None => uses.push(GprUse { cell, register: guest.number() as u8, written }),
    }
    Ok(())
}
