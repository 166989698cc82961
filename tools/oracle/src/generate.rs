//! Makes cases: bytes of an instruction form, then registers and memory that suit it.
//!
//! The bytes are random but for those that the form dictates, and are kept if the decoder finds
//! the form in them: so prefixes, redundant encodings and operands come in every combination.

use iced_x86::{Decoder, DecoderOptions, EncodingKind, FlowControl, Instruction};
use iced_x86::{MandatoryPrefix, OpCodeInfo, OpCodeOperandKind, OpCodeTableKind};

use crate::aim;
use crate::case::{CODE_LEN, Case, POKES, Poke};
use crate::forms::{Form, Processors};
use crate::layout::{
    CODE, CODE_MIDDLE, CODE16, FILLER, LINE, PAGE, SELECTORS, USER_CS, USER_DS, USER32_CS,
};
use crate::random::Random;
use crate::state::random_fpu;

/// Attempts at the bytes of a form.
const ATTEMPTS: u32 = 3000;
/// RFLAGS of every program: IF and the fixed bit.
pub const PLAIN_FLAGS: u64 = 0x202;
/// CF, PF, AF, ZF, SF, OF.
const STATUS: u64 = 0x8D5;
const TF: u64 = 1 << 8;
const DF: u64 = 1 << 10;
const AC: u64 = 1 << 18;

/// Decodes as the host does.
#[must_use]
pub fn decode(bytes: &[u8], bits: u32, ip: u64, amd: bool) -> Instruction {
    let options = if amd { DecoderOptions::AMD } else { DecoderOptions::NONE };
    let bytes = &bytes[..bytes.len().min(15)];
    Decoder::with_ip(bits, bytes, ip, options).decode()
}

/// The instruction of a case. Its last bytes may be of what fills the code.
#[must_use]
pub fn instruction_of(case: &Case, amd: bool) -> Instruction {
    let len = (case.len as usize).min(CODE_LEN);
    let mut bytes = [FILLER; CODE_LEN];
    bytes[..len].copy_from_slice(&case.code[..len]);
    decode(&bytes, case.bits, case.rip, amd)
}

/// A case of a form; none if no bytes were found for it.
#[must_use]
pub fn case_of(form: Form, random: &mut Random, processors: &Processors) -> Option<Case> {
    let mut bytes = form_bytes(form, random, processors.amd())?;
    let mut len = decode(&bytes, form.bits, 0, processors.amd()).len();
    if random.chance(6) {
        len = mutate(&mut bytes, len, random);
    }
    Some(case_with(bytes, len, form.bits, random, processors.amd()))
}

/// A case of these bytes.
#[must_use]
pub fn case_with(
    bytes: [u8; CODE_LEN],
    len: usize,
    bits: u32,
    random: &mut Random,
    amd: bool,
) -> Case {
    let mut case = blank(bits);
    case.code = bytes;
    case.len = len.clamp(1, CODE_LEN) as u32;
    // What follows an instruction would run, too.
    let decoded = instruction_of(&case, amd);
    if !decoded.is_invalid() {
        case.len = case.len.min(decoded.len() as u32);
    }
    place(&mut case, random);
    case.rflags = PLAIN_FLAGS | random.next() & STATUS;
    case.rflags |= if random.chance(25) { DF } else { 0 };
    case.rflags |= if random.chance(8) { AC } else { 0 };
    case.rflags |= if random.chance(75) { TF } else { 0 };
    for gpr in &mut case.gpr {
        *gpr = random.value();
    }
    if random.chance(80) {
        case.gpr[4] = random.address() & !7;
    }
    choose_segments(&mut case, random);
    random_fpu(&mut case.fpu, random);
    let pokes = random.below(POKES as u64 / 2);
    for _ in 0..pokes {
        let at = random.address();
        poke(&mut case, at, random);
    }
    let instruction = instruction_of(&case, amd);
    if instruction.flow_control() != FlowControl::Next {
        // It may jump to itself.
        case.rflags |= TF;
    }
    if instruction.is_vsib() {
        // A trap after some elements comes before the fault at another one.
        case.rflags &= !TF;
    }
    aim::at_memory(&mut case, &instruction, random);
    if bits != 64 {
        narrow(&mut case);
    }
    case
}

/// A case with nothing in it.
#[must_use]
pub fn blank(bits: u32) -> Case {
    let mut fpu = cpu_host::FpuState::at_reset();
    fpu.init_x87();
    let cs = match bits {
        16 => CODE16,
        32 => USER32_CS,
        _ => USER_CS,
    };
    Case {
        fpu,
        gpr: [0; 16],
        rip: CODE_MIDDLE + if bits == 16 { 0 } else { CODE },
        rflags: PLAIN_FLAGS | TF,
        fs_base: 0,
        gs_base: 0,
        seg: [USER_DS, cs, USER_DS, USER_DS, 0, 0],
        bits,
        len: 1,
        code: [0x90; CODE_LEN],
        pokes: [Poke { at: 0, len: 0, bytes: [0; LINE] }; POKES],
    }
}

/// Code outside of 64-bit mode has eight registers of 32 bits.
fn narrow(case: &mut Case) {
    for (number, gpr) in case.gpr.iter_mut().enumerate() {
        *gpr = if number < 8 { *gpr & 0xFFFF_FFFF } else { 0 };
    }
}

/// Mostly the middle of a page; now and then across the page boundary or before the end.
fn place(case: &mut Case, random: &mut Random) {
    let base = if case.bits == 16 { 0 } else { CODE };
    let end = if random.chance(50) { PAGE } else { 2 * PAGE } as u64;
    case.rip = base
        + match random.below(20) {
            0 => end - 1 - random.below(16),
            _ => CODE_MIDDLE,
        };
}

fn choose_segments(case: &mut Case, random: &mut Random) {
    // Selectors that can be in a register without a fault: not those of the kernel, of absent
    // descriptors, of execute-only code.
    const LOADABLE: [u16; 11] =
        [0, USER32_CS, USER_DS, USER_CS, 0x28, 0x07, 0x0F, 0x17, 0x1F, 0x37, 0x3F];
    debug_assert!(LOADABLE.iter().all(|selector| SELECTORS.contains(selector)));
    for number in [0, 3, 4, 5] {
        if random.chance(if case.bits == 64 { 5 } else { 25 }) {
            case.seg[number] = random.pick(&LOADABLE);
        } else if case.bits == 16 || (case.bits == 32 && number >= 4) {
            case.seg[number] = 0x0F;
        }
    }
    if case.bits != 64 && random.chance(10) {
        case.seg[2] = random.pick(&[0x0F, 0x47]);
    }
    if case.bits == 64 {
        (case.seg[4], case.seg[5]) = (0, 0);
        case.fs_base = base(random);
        case.gs_base = base(random);
    }
}

fn base(random: &mut Random) -> u64 {
    match random.below(4) {
        0 => 0,
        1 => random.below(0x1000),
        2 => random.address() & 0x7FFF_FFFF_FFFF,
        _ => random.next() & 0xFFFF_FFFF,
    }
}

/// Puts random bytes around an address, if it is in a writable page.
pub fn poke(case: &mut Case, address: u64, random: &mut Random) {
    let at = (address.wrapping_sub(crate::layout::DATA) as usize) & !(LINE - 1);
    if at >= crate::layout::IMAGE || !crate::case::writable_line(at / LINE) {
        return;
    }
    let Some(slot) = case.pokes.iter_mut().find(|slot| slot.len == 0) else {
        return;
    };
    (slot.at, slot.len) = (at as u32, LINE as u32);
    for lane in slot.bytes.chunks_exact_mut(8) {
        let value = if random.chance(20) { random.value() } else { random.lanes() };
        lane.copy_from_slice(&value.to_le_bytes());
    }
}

/// Changes bytes at random: illegal encodings, prefixes that do not belong.
fn mutate(bytes: &mut [u8; CODE_LEN], len: usize, random: &mut Random) -> usize {
    const PREFIXES: [u8; 12] =
        [0xF0, 0x66, 0x67, 0xF2, 0xF3, 0x2E, 0x36, 0x64, 0x65, 0x48, 0x41, 0x40];
    match random.below(4) {
        0 => {
            bytes[random.below(len as u64) as usize] ^= 1 << random.below(8);
            len
        }
        1 => {
            bytes[random.below(len as u64) as usize] = random.next() as u8;
            CODE_LEN.min(len + random.below(3) as usize)
        }
        2 => {
            bytes.rotate_right(1);
            bytes[0] = random.pick(&PREFIXES);
            CODE_LEN.min(len + 1)
        }
        _ => {
            // As long as an instruction can be, or one byte longer.
            let wanted = 14 + random.below(3) as usize;
            let filler = random.pick(&PREFIXES[..9]);
            let add = wanted.saturating_sub(len);
            bytes.rotate_right(add);
            bytes[..add].fill(filler);
            CODE_LEN.min(len + add)
        }
    }
}

/// Bytes that the decoder takes for the form, followed by random ones.
fn form_bytes(form: Form, random: &mut Random, amd: bool) -> Option<[u8; CODE_LEN]> {
    for _ in 0..ATTEMPTS {
        let mut writer = Writer { bytes: [0; CODE_LEN], len: 0 };
        write_form(&mut writer, form, random);
        while writer.len < CODE_LEN {
            let byte = random.next() as u8;
            writer.push(byte);
        }
        let found = decode(&writer.bytes, form.bits, 0, amd);
        if found.code() == form.code {
            return Some(writer.bytes);
        }
    }
    None
}

struct Writer {
    bytes: [u8; CODE_LEN],
    len: usize,
}

impl Writer {
    fn push(&mut self, byte: u8) {
        if self.len < CODE_LEN {
            self.bytes[self.len] = byte;
            self.len += 1;
        }
    }
}

fn write_form(writer: &mut Writer, form: Form, random: &mut Random) {
    let info = form.code.op_code();
    match info.encoding() {
        EncodingKind::VEX => write_prefixes(writer, info, form.bits, random, false),
        EncodingKind::EVEX => write_prefixes(writer, info, form.bits, random, false),
        _ => write_prefixes(writer, info, form.bits, random, true),
    }
    match info.encoding() {
        EncodingKind::VEX => write_vex(writer, info, form.bits, random),
        EncodingKind::EVEX => write_evex(writer, info, form.bits, random),
        _ => write_legacy_opcode(writer, info, form.bits, random),
    }
    write_opcode(writer, info, random);
}

fn write_prefixes(
    writer: &mut Writer,
    info: &OpCodeInfo,
    bits: u32,
    random: &mut Random,
    legacy: bool,
) {
    if random.chance(10) {
        writer.push(random.pick(&[0x64, 0x65, 0x2E, 0x36, 0x3E, 0x26]));
    }
    let other_address = info.address_size() != 0 && info.address_size() != bits;
    let vsib = (0..info.op_count()).any(|number| is_vsib(info.op_kind(number)));
    if other_address || (vsib && bits == 16) || random.chance(8) {
        writer.push(0x67);
    }
    if !legacy {
        return;
    }
    if info.can_use_lock_prefix() && random.chance(30) {
        writer.push(0xF0);
    }
    let repeats = info.can_use_rep_prefix() || info.can_use_repne_prefix();
    if random.chance(if repeats { 60 } else { 4 }) {
        writer.push(random.pick(&[0xF2, 0xF3]));
    }
    let size = info.operand_size();
    let other_size = (size == 16 && bits != 16) || (size == 32 && bits == 16);
    let mandatory = match info.mandatory_prefix() {
        MandatoryPrefix::P66 => Some(0x66),
        MandatoryPrefix::PF3 => Some(0xF3),
        MandatoryPrefix::PF2 => Some(0xF2),
        _ => None,
    };
    if (other_size && mandatory != Some(0x66)) || random.chance(4) {
        writer.push(0x66);
    }
    mandatory.into_iter().for_each(|prefix| writer.push(prefix));
}

fn is_vsib(kind: OpCodeOperandKind) -> bool {
    use OpCodeOperandKind as Kind;
    matches!(
        kind,
        Kind::mem_vsib32x
            | Kind::mem_vsib64x
            | Kind::mem_vsib32y
            | Kind::mem_vsib64y
            | Kind::mem_vsib32z
            | Kind::mem_vsib64z
    )
}

fn write_legacy_opcode(writer: &mut Writer, info: &OpCodeInfo, bits: u32, random: &mut Random) {
    let wide = info.operand_size() == 64 && !info.default_op_size64();
    if bits == 64 && (wide || random.chance(40)) {
        let width = if wide || random.chance(10) { 8 } else { 0 };
        writer.push(0x40 | width | (random.next() & 7) as u8);
    }
    match info.table() {
        OpCodeTableKind::T0F => writer.push(0x0F),
        OpCodeTableKind::T0F38 => [0x0F, 0x38].into_iter().for_each(|byte| writer.push(byte)),
        OpCodeTableKind::T0F3A => [0x0F, 0x3A].into_iter().for_each(|byte| writer.push(byte)),
        _ => {}
    }
}

/// Opcode and ModRM as far as the form dictates them.
fn write_opcode(writer: &mut Writer, info: &OpCodeInfo, random: &mut Random) {
    let opcode = info.op_code();
    if info.op_code_len() == 2 {
        writer.push((opcode >> 8) as u8);
        writer.push(opcode as u8);
        return;
    }
    let in_opcode = (0..info.op_count()).any(|number| {
        use OpCodeOperandKind as Kind;
        matches!(
            info.op_kind(number),
            Kind::r8_opcode
                | Kind::r16_opcode
                | Kind::r32_opcode
                | Kind::r64_opcode
                | Kind::sti_opcode
        )
    });
    let register = if in_opcode { (random.next() & 7) as u8 } else { 0 };
    writer.push(opcode as u8 | register);
    let mut modrm = random.next() as u8;
    if info.group_index() >= 0 {
        modrm = modrm & 0xC7 | (info.group_index() as u8) << 3;
        if info.rm_group_index() >= 0 {
            modrm = modrm & 0xF8 | info.rm_group_index() as u8;
        }
        writer.push(modrm);
    }
}

/// Fields of VEX and EVEX that say the mandatory prefix.
fn pp(info: &OpCodeInfo) -> u8 {
    match info.mandatory_prefix() {
        MandatoryPrefix::P66 => 1,
        MandatoryPrefix::PF3 => 2,
        MandatoryPrefix::PF2 => 3,
        _ => 0,
    }
}

fn map(info: &OpCodeInfo) -> u8 {
    match info.table() {
        OpCodeTableKind::T0F38 => 2,
        OpCodeTableKind::T0F3A => 3,
        OpCodeTableKind::MAP5 => 5,
        OpCodeTableKind::MAP6 => 6,
        _ => 1,
    }
}

fn w(info: &OpCodeInfo, random: &mut Random) -> u8 {
    if info.is_wig() { (random.next() & 1) as u8 } else { info.w() as u8 }
}

fn write_vex(writer: &mut Writer, info: &OpCodeInfo, bits: u32, random: &mut Random) {
    // R, X and B are inverted; outside of 64-bit mode they must be ones.
    let rxb = if bits == 64 { random.next() as u8 & 0xE0 } else { 0xE0 };
    let length = if info.is_lig() { (random.next() & 1) as u8 } else { info.l() as u8 };
    let vvvv = if random.chance(50) { 0x78 } else { random.next() as u8 & 0x78 };
    if map(info) == 1 && info.w() == 0 && random.chance(40) {
        writer.push(0xC5);
        let inverted = if bits == 64 { rxb & 0x80 } else { 0x80 };
        writer.push(inverted | vvvv | length << 2 | pp(info));
        return;
    }
    writer.push(0xC4);
    writer.push(rxb | map(info));
    writer.push(w(info, random) << 7 | vvvv | length << 2 | pp(info));
}

fn write_evex(writer: &mut Writer, info: &OpCodeInfo, bits: u32, random: &mut Random) {
    let registers = if bits == 64 { random.next() as u8 & 0xF0 } else { 0xF0 };
    let vvvv = if random.chance(40) { 0x78 } else { random.next() as u8 & 0x78 };
    let high = if bits == 64 && random.chance(40) { 0 } else { 8 };
    let broadcast = if random.chance(25) { 0x10 } else { 0 };
    let length = match (info.is_lig(), broadcast) {
        // With a register operand the length is the rounding mode then.
        (true, _) => random.below(4) as u8,
        (false, 0) => info.l() as u8,
        (false, _) if random.chance(50) => info.l() as u8,
        (false, _) => random.below(4) as u8,
    };
    let mask = if random.chance(45) { 0 } else { (random.next() & 7) as u8 };
    let zeroing = if mask != 0 && random.chance(35) { 0x80 } else { 0 };
    writer.push(0x62);
    writer.push(registers | map(info));
    writer.push(w(info, random) << 7 | vvvv | 4 | pp(info));
    writer.push(zeroing | (length & 3) << 5 | broadcast | high | mask);
}
