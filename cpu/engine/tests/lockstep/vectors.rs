//! Programs of vector and x87 registers among general ones: every form that the host has, and what
//! separates one stretch of them from the next.

use std::sync::OnceLock;

use cpu_defs::{Reg, cr0, cr4};
use cpu_engine::{Features, supported_cpuid};
use iced_x86::Register::MM0;
use iced_x86::{
    Code, CpuidFeature, Encoder, Instruction, MemoryOperand, OpCodeOperandKind as Kind, OpKind,
    Register,
};

use super::guest::Guest;
use super::integers::{jump, load_pointer, plain, short};
use super::random::Random;
use super::{DATA, compare, machine};

/// Instructions of a program.
const LEN: usize = 30;
/// Offset of MXCSR in an FXSAVE area.
const MXCSR: usize = 24;

/// Forms with vector registers, and others that need them to be usable.
fn forms() -> &'static [Code] {
    static FORMS: OnceLock<Vec<Code>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let features = Features::of(&supported_cpuid());
        Code::values()
            .filter(|code| code.op_code().mode64() && features.announces(code.cpuid_features()))
            .filter(|code| uses_vectors(*code) || OTHERS.contains(code))
            .collect()
    })
}

/// With operands of any value, nearly all of these end a program soon.
const UNMASKING: &[Code] =
    &[Code::Fldenv_m14byte, Code::Fldenv_m28byte, Code::Frstor_m94byte, Code::Frstor_m108byte];

/// Those of x87 and MMX alone.
fn x87_forms() -> &'static [Code] {
    static FORMS: OnceLock<Vec<Code>> = OnceLock::new();
    FORMS.get_or_init(|| {
        let uses = |code: &Code| {
            let info = code.op_code();
            (0..info.op_count()).any(|number| first_register(info.op_kind(number)) == Some(MM0))
                || code.cpuid_features().contains(&CpuidFeature::FPU)
        };
        let features = Features::of(&supported_cpuid());
        let have = |code: &Code| features.announces(code.cpuid_features());
        Code::values()
            .filter(|code| code.op_code().mode64() && have(code) && uses(code))
            .filter(|code| !UNMASKING.contains(code))
            .collect()
    })
}

/// Without a vector register among the operands.
const OTHERS: &[Code] = &[
    Code::Stmxcsr_m32,
    Code::Ldmxcsr_m32,
    Code::VEX_Vzeroupper,
    Code::VEX_Vzeroall,
    Code::Movnti_m32_r32,
    Code::Movnti_m64_r64,
    Code::Clflush_m8,
    Code::Mfence,
    Code::Lfence,
    Code::Sfence,
    Code::Fxsave_m512byte,
];

fn uses_vectors(code: Code) -> bool {
    let info = code.op_code();
    (0..info.op_count()).any(|number| {
        let register = first_register(info.op_kind(number));
        register.is_some_and(|first| first.is_vector_register() || first.is_k() || first.is_mm())
    })
}

fn is_memory(kind: Kind) -> bool {
    (Kind::mem..=Kind::k_or_mem).contains(&kind)
}

/// The register operands of this kind start with.
fn first_register(kind: Kind) -> Option<Register> {
    use Register as R;
    Some(match kind {
        Kind::r32_or_mem | Kind::r32_rm | Kind::r32_reg | Kind::r32_reg_mem => R::EAX,
        Kind::r64_or_mem | Kind::r64_rm | Kind::r64_reg | Kind::r64_reg_mem => R::RAX,
        Kind::mm_or_mem | Kind::mm_rm | Kind::mm_reg => R::MM0,
        Kind::xmm_or_mem | Kind::xmm_rm | Kind::xmm_reg | Kind::xmm_vvvv => R::XMM0,
        Kind::ymm_or_mem | Kind::ymm_rm | Kind::ymm_reg | Kind::ymm_vvvv => R::YMM0,
        Kind::zmm_or_mem | Kind::zmm_rm | Kind::zmm_reg | Kind::zmm_vvvv => R::ZMM0,
        Kind::xmm_is4 | Kind::xmm_is5 => R::XMM0,
        Kind::ymm_is4 | Kind::ymm_is5 => R::YMM0,
        Kind::k_or_mem | Kind::k_rm | Kind::k_reg | Kind::kp1_reg | Kind::k_vvvv => R::K0,
        Kind::st0 | Kind::sti_opcode => R::ST0,
        Kind::ax => R::AX,
        _ => return None,
    })
}

/// An instruction of a form, with any registers, mostly behind one that has its memory operand's base
/// point to memory.
fn any(code: Code, random: &mut Random) -> Option<Vec<u8>> {
    let info = code.op_code();
    if is_gather(code) && random.chance(95) {
        return None;
    }
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    let memory = random.chance(50);
    let evex = info.encoding() == iced_x86::EncodingKind::EVEX;
    for number in 0..info.op_count() {
        let kind = info.op_kind(number);
        if is_memory(kind) && (memory || first_register(kind).is_none()) {
            instruction.set_op_kind(number, OpKind::Memory);
            set_address(&mut instruction, kind, random);
            continue;
        }
        if let Some(first) = first_register(kind) {
            let count = match first {
                Register::AX => 1,
                _ if kind == Kind::st0 => 1,
                _ if first.is_k() || first.is_mm() || first.is_st() => 8,
                _ => 16,
            };
            let more = if evex && first.is_vector_register() { 2 } else { 1 };
            instruction.set_op_kind(number, OpKind::Register);
            instruction.set_op_register(number, first + random.below(count * more) as u32);
            continue;
        }
        match kind {
            Kind::imm8 | Kind::imm4_m2z => {
                let second = number > 0 && instruction.op_kind(number - 1) == OpKind::Immediate8;
                let kind = if second { OpKind::Immediate8_2nd } else { OpKind::Immediate8 };
                instruction.set_op_kind(number, kind);
                instruction.set_immediate_u64(number, random.next() & 0xF);
            }
            Kind::seg_rDI => instruction.set_op_kind(number, OpKind::MemorySegRDI),
            _ => return None,
        }
    }
    if info.require_op_mask_register() || info.can_use_op_mask_register() && random.chance(30) {
        instruction.set_op_mask(Register::K1 + random.below(7) as u32);
        instruction.set_zeroing_masking(info.can_use_zeroing_masking() && random.chance(50));
    }
    instruction.set_is_broadcast(memory && info.can_broadcast() && random.chance(50));
    let mut bytes = Vec::new();
    if instruction.memory_base() != Register::None && random.chance(95) {
        let aligned = if random.chance(80) { 0x3F } else { 0 };
        let pointer = (DATA + 0x40 - random.below(0x100) as u64) & !aligned;
        let base = instruction.memory_base().number() as u8;
        bytes.extend_from_slice(&[0x48 | base >> 3, 0xB8 | (base & 7)]);
        bytes.extend_from_slice(&pointer.to_le_bytes());
    }
    let mut encoder = Encoder::new(64);
    encoder.encode(&instruction, 0).ok()?;
    bytes.append(&mut encoder.take_buffer());
    Some(bytes)
}

fn is_gather(code: Code) -> bool {
    let info = code.op_code();
    let vsib = Kind::mem_vsib32x..=Kind::mem_vsib64z;
    (0..info.op_count()).any(|number| vsib.contains(&info.op_kind(number)))
}

fn set_address(instruction: &mut Instruction, kind: Kind, random: &mut Random) {
    let index = match kind {
        Kind::mem_vsib32x | Kind::mem_vsib64x => Register::XMM0,
        Kind::mem_vsib32y | Kind::mem_vsib64y => Register::YMM0,
        Kind::mem_vsib32z | Kind::mem_vsib64z => Register::ZMM0,
        _ => Register::None,
    };
    let displacement = if random.chance(50) { random.below(4) as i64 * 64 - 128 } else { 0 };
    let base = Register::RAX + random.below(16) as u32;
    let operand = MemoryOperand::with_base_displ(base, displacement);
    instruction.set_memory_base(operand.base);
    instruction.set_memory_displacement64(displacement as u64);
    instruction.set_memory_displ_size(1);
    if index != Register::None {
        instruction.set_memory_index(index + random.below(16) as u32);
    } else if random.chance(10) {
        instruction.set_segment_prefix([Register::FS, Register::GS][random.below(2)]);
    }
}

fn program(forms: &[Code], random: &mut Random) -> Vec<u8> {
    let mut code = Vec::new();
    for _ in 0..LEN {
        match random.below(40) {
            0 => load_pointer(random, &mut code),
            1 => short(random, &mut code),
            2 => jump(random, &mut code),
            3 => plain(random, &mut code),
            // mov rsp, stack; pushfq; pop rbx: how the flags are. The first alone is no callout.
            4..8 => {
                code.extend_from_slice(&[0xBC]);
                code.extend_from_slice(&(DATA as u32 + 0x100).to_le_bytes());
                code.extend_from_slice(&[0x9C, 0x5B]);
            }
            // cmp rax, rbx
            8 => code.extend_from_slice(&[0x48, 0x39, 0xD8]),
            _ => code.extend(any(forms[random.below(forms.len())], random).unwrap_or_default()),
        }
    }
    code.extend_from_slice(&[0xF4; 16]);
    code
}

/// As [`machine`], with vector registers, which mostly can be used.
fn vector_machine(code: &[u8], random: &mut Random) -> Guest {
    let mut guest = machine(code, random);
    let enabled = cr4::OSFXSR | cr4::OSXSAVE | cr4::OSXMMEXCPT;
    let taken = if random.chance(4) { 1 << random.below(20) } else { 0 };
    guest.set(Reg::Cr4, 0x20 | enabled & !taken);
    let all = Features::of(&supported_cpuid()).xcr0 & 0xE7;
    guest.set(Reg::Xcr0, if random.chance(80) { all } else { [7, 3, 1][random.below(3)] & all });
    let switched = if random.chance(6) { [cr0::TS, cr0::EM][random.below(2)] } else { 0 };
    guest.set(Reg::Cr0, 0x8001_0011 | switched);
    let fpu = guest.vcpu.fpu_mut();
    fpu.init_x87();
    let tops = random.chance(50);
    for zmm in &mut fpu.zmm {
        zmm[..32].fill_with(|| random.next() as u8);
        if tops {
            zmm[32..].fill_with(|| random.next() as u8);
        }
        // Numbers that are near each other.
        if random.chance(50) {
            zmm[..16].copy_from_slice(&pair(random.next()));
        }
    }
    fpu.opmask.fill_with(|| random.next());
    let masks = if random.chance(90) { 0x1F80 } else { random.next() as u32 & 0x1F80 };
    let mxcsr = masks | random.next() as u32 & 0xE07F;
    let mut area = fpu.fxsave();
    set_x87(&mut area, random);
    area[MXCSR..MXCSR + 4].copy_from_slice(&mxcsr.to_le_bytes());
    fpu.fxrstor(&area);
    guest
}

/// Numbers on the register stack, and where it is.
fn set_x87(area: &mut [u8; 512], random: &mut Random) {
    area[32..160].fill_with(|| random.next() as u8);
    for register in area[32..160].chunks_exact_mut(16) {
        register[8] = random.next() as u8 & 7;
        register[9] = 0x40 | random.next() as u8 & 0x80;
        register[7] |= 0x80;
    }
    let masks = if random.chance(90) { 0x3F } else { random.next() as u8 & 0x3F };
    area[0] = masks | 0x40;
    area[1] = random.next() as u8 & 0x0F;
    area[2] = if random.chance(50) { random.next() as u8 & 0x3F } else { 0 };
    area[3] = random.next() as u8 & 0x7F;
    area[4] = random.next() as u8;
}

fn pair(bits: u64) -> [u8; 16] {
    let number = |bits: u64| (f64::from(bits as i16) / 256.0).to_le_bytes();
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&number(bits));
    bytes[8..].copy_from_slice(&number(bits >> 16));
    bytes
}

#[test]
fn both_tiers_compute_the_same_vectors() {
    compare(|random| program(forms(), random), vector_machine);
}

#[test]
fn both_tiers_compute_the_same_on_the_register_stack() {
    compare(|random| program(x87_forms(), random), vector_machine);
}
