//! FNSTENV, FLDENV, FNSAVE, FRSTOR.
//!
//! SDM volume 1, "Saving the x87 FPU's State with FSTENV/FNSTENV and FSAVE/FNSAVE": four formats,
//! by operand size and by whether selectors name descriptors. Without them an offset is saved as
//! the linear address it was.

use cpu_host::{FCW, FSW, X87Pointers};
use cpu_mmu::AccessKind;
use iced_x86::{Code, Instruction};

use super::{check_available, check_waiting};
use crate::cpu::Cpu;
use crate::long_operand::LongSpan;
use crate::op::{Handler, Op};
use crate::stop::{Done, Stop};

const ST_COUNT: usize = 8;
const ST_LEN: usize = 10;
/// Environment and registers.
const MAX_LEN: usize = 28 + ST_COUNT * ST_LEN;
/// Exception masks of FCW.
const MASKS: u16 = 0x3F;
/// Bits of FOP.
const OPCODE: u32 = 0x7FF;
/// Upper half of a 32-bit field that has 16 bits.
const RESERVED: u32 = 0xFFFF_0000;

/// Format of an environment.
#[derive(Clone, Copy)]
struct Format {
    /// Fields of 32 bits, not 16.
    wide: bool,
    /// Selector and offset, not linear addresses.
    selectors: bool,
}

impl Format {
    fn of(cpu: &Cpu, wide: bool) -> Self {
        Format { wide, selectors: cpu.mode.has_descriptors() }
    }

    fn len(self) -> usize {
        7 * self.step()
    }

    /// Length of a field.
    fn step(self) -> usize {
        if self.wide { 4 } else { 2 }
    }

    /// End of the field or register that a byte belongs to.
    fn piece_end(self, at: usize) -> usize {
        match at.checked_sub(self.len()) {
            None => (at + 1).next_multiple_of(self.step()),
            Some(at) => self.len() + (at + 1).next_multiple_of(ST_LEN),
        }
    }
}

pub(super) fn select(instruction: &Instruction) -> Option<Handler> {
    Some(match instruction.code() {
        Code::Fnstenv_m14byte => |cpu, op| fnstenv(cpu, op, false),
        Code::Fnstenv_m28byte => |cpu, op| fnstenv(cpu, op, true),
        Code::Fldenv_m14byte => |cpu, op| fldenv(cpu, op, false),
        Code::Fldenv_m28byte => |cpu, op| fldenv(cpu, op, true),
        Code::Fnsave_m94byte => |cpu, op| fnsave(cpu, op, false),
        Code::Fnsave_m108byte => |cpu, op| fnsave(cpu, op, true),
        Code::Frstor_m94byte => |cpu, op| frstor(cpu, op, false),
        Code::Frstor_m108byte => |cpu, op| frstor(cpu, op, true),
        _ => return None,
    })
}

/// The seven fields.
fn fields(cpu: &Cpu, format: Format) -> [u32; 7] {
    let fpu = &cpu.fpu;
    let X87Pointers { ip, dp, cs, ds, opcode } = fpu.pointers;
    let [control, status, tags] =
        [fpu.u16(FCW), fpu.u16(FSW), fpu.full_tags()].map(|word| u32::from(word) | RESERVED);
    let linear =
        |selector: u16, offset: u64| (u32::from(selector) << 4).wrapping_add(offset as u32);
    let opcode = u32::from(opcode);
    let pointers = if format.selectors {
        let below_opcode = if format.wide { opcode << 16 } else { 0 };
        [ip as u32, u32::from(cs) | below_opcode, dp as u32, u32::from(ds) | RESERVED]
    } else {
        // The upper part of an address shares a field with the opcode, from bit 12 on.
        let (ip, dp) = (linear(cs, ip), linear(ds, dp));
        let upper = |address: u32| address >> 16 << 12;
        [ip | RESERVED, upper(ip) | opcode, dp | RESERVED, upper(dp)]
    };
    [control, status, tags, pointers[0], pointers[1], pointers[2], pointers[3]]
}

fn put_environment(cpu: &Cpu, format: Format, bytes: &mut [u8]) {
    let step = format.step();
    for (field, value) in bytes.chunks_exact_mut(step).zip(fields(cpu, format)) {
        field.copy_from_slice(&value.to_le_bytes()[..step]);
    }
}

fn take_environment(cpu: &mut Cpu, format: Format, bytes: &[u8]) {
    let step = format.step();
    let mut fields = [0; 7];
    for (value, field) in fields.iter_mut().zip(bytes.chunks_exact(step)) {
        let mut word = [0; 4];
        word[..step].copy_from_slice(field);
        *value = u32::from_le_bytes(word);
    }
    let [control, status, tags, ip, second, dp, fourth] = fields;
    cpu.fpu.set_environment(control as u16, status as u16, tags as u16);
    let address = |low: u32, high: u32| {
        let high = if format.wide { high } else { high & 0xFFFF };
        u64::from((low & 0xFFFF) | high >> 12 << 16)
    };
    cpu.fpu.pointers = if format.selectors {
        let opcode = if format.wide { (second >> 16 & OPCODE) as u16 } else { 0 };
        let (ip, dp) = (u64::from(ip), u64::from(dp));
        let [cs, ds] = match cpu.has_x87_selectors() {
            true => [second as u16, fourth as u16],
            false => [0; 2],
        };
        X87Pointers { ip, dp, cs, ds, opcode }
    } else {
        let opcode = (second & OPCODE) as u16;
        X87Pointers { ip: address(ip, second), dp: address(dp, fourth), cs: 0, ds: 0, opcode }
    };
}

fn translate(
    cpu: &mut Cpu,
    op: &Op,
    format: Format,
    len: usize,
    kind: AccessKind,
) -> Result<LongSpan, Stop> {
    cpu.probe_first_piece(op, format.step(), kind)?;
    let operand = cpu.long_operand(op, len, kind, |at| format.piece_end(at))?;
    cpu.long_span(operand, kind)
}

/// Stores the environment and, if they fit, the registers, as one operand.
fn store(cpu: &mut Cpu, op: &Op, format: Format, len: usize) -> Done {
    let span = translate(cpu, op, format, len, AccessKind::Write)?;
    let mut bytes = [0; MAX_LEN];
    let (environment, registers) = bytes[..len].split_at_mut(format.len());
    put_environment(cpu, format, environment);
    for (number, register) in registers.chunks_exact_mut(ST_LEN).enumerate() {
        register.copy_from_slice(&cpu.fpu.st(number));
    }
    cpu.write_long(span, 0, &bytes[..len]);
    Ok(())
}

fn load(cpu: &mut Cpu, op: &Op, format: Format, len: usize) -> Done {
    let span = translate(cpu, op, format, len, AccessKind::Read)?;
    let mut bytes = [0; MAX_LEN];
    cpu.read_long(span, 0, &mut bytes[..len])?;
    let (environment, registers) = bytes[..len].split_at(format.len());
    take_environment(cpu, format, environment);
    for (number, register) in registers.chunks_exact(ST_LEN).enumerate() {
        cpu.fpu.set_st(number, &std::array::from_fn(|byte| register[byte]));
    }
    Ok(())
}

/// Masks every exception once the environment is saved.
fn fnstenv(cpu: &mut Cpu, op: &Op, wide: bool) -> Done {
    check_available(cpu)?;
    let format = Format::of(cpu, wide);
    store(cpu, op, format, format.len())?;
    let (control, status) = (cpu.fpu.u16(FCW), cpu.fpu.u16(FSW));
    cpu.fpu.set_control_status(control | MASKS, status);
    Ok(())
}

fn fldenv(cpu: &mut Cpu, op: &Op, wide: bool) -> Done {
    check_waiting(cpu)?;
    let format = Format::of(cpu, wide);
    load(cpu, op, format, format.len())
}

fn fnsave(cpu: &mut Cpu, op: &Op, wide: bool) -> Done {
    check_available(cpu)?;
    let format = Format::of(cpu, wide);
    store(cpu, op, format, format.len() + ST_COUNT * ST_LEN)?;
    cpu.fpu.init_x87();
    Ok(())
}

fn frstor(cpu: &mut Cpu, op: &Op, wide: bool) -> Done {
    check_waiting(cpu)?;
    let format = Format::of(cpu, wide);
    load(cpu, op, format, format.len() + ST_COUNT * ST_LEN)
}
