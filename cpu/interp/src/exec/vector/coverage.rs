//! No vector instruction that the host has is left out.

use cpu_host::host_has;
use iced_x86::{
    Code, Encoder, Instruction, MemoryOperand, OpCodeOperandKind as Kind, OpKind, Register,
};

use crate::decode::{Decoded, decode_one};
use crate::exec::{undefined, unsupported};
use crate::features::Features;
use crate::native::Native;
use crate::op::Handler;

/// An instruction of this code with different registers, in register or memory form.
fn sample(code: Code, memory: bool) -> Option<Instruction> {
    let info = code.op_code();
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    for number in 0..info.op_count() {
        let register = |instruction: &mut Instruction, first: Register, by: u32| {
            instruction.set_op_kind(number, OpKind::Register);
            instruction.set_op_register(number, first + by);
        };
        let kind = info.op_kind(number);
        if let Some((first, by)) = register_of(kind, memory) {
            register(&mut instruction, first, by);
            continue;
        }
        let index = match kind {
            Kind::mem_vsib32x | Kind::mem_vsib64x => Register::XMM5,
            Kind::mem_vsib32y | Kind::mem_vsib64y => Register::YMM5,
            Kind::mem_vsib32z | Kind::mem_vsib64z => Register::ZMM5,
            _ => Register::None,
        };
        match kind {
            Kind::imm8 | Kind::imm4_m2z => {
                let second = number > 0 && instruction.op_kind(number - 1) == OpKind::Immediate8;
                let kind = if second { OpKind::Immediate8_2nd } else { OpKind::Immediate8 };
                instruction.set_op_kind(number, kind);
            }
            Kind::seg_rDI => instruction.set_op_kind(number, OpKind::MemorySegRDI),
            Kind::mem if !memory => return None,
            Kind::mem_offs | Kind::seg_rSI | Kind::es_rDI | Kind::seg_rBX_al => return None,
            _ if is_memory(kind) => {
                instruction.set_op_kind(number, OpKind::Memory);
                let place = MemoryOperand::with_base(Register::RBX);
                instruction.set_memory_base(place.base);
                instruction.set_memory_index(index);
            }
            _ => return None,
        }
    }
    if info.require_op_mask_register() {
        instruction.set_op_mask(Register::K1);
    }
    Some(instruction)
}

fn is_memory(kind: Kind) -> bool {
    (Kind::mem..=Kind::k_or_mem).contains(&kind)
}

/// First register of the class and the number to add.
fn register_of(kind: Kind, memory: bool) -> Option<(Register, u32)> {
    use Register as R;
    if memory && is_memory(kind) {
        return None;
    }
    Some(match kind {
        Kind::r32_or_mem | Kind::r32_rm | Kind::r32_reg => (R::EAX, 1),
        Kind::r64_or_mem | Kind::r64_rm | Kind::r64_reg => (R::RAX, 1),
        Kind::r32_reg_mem => (R::EAX, 1),
        Kind::r64_reg_mem => (R::RAX, 1),
        Kind::mm_or_mem | Kind::mm_rm => (R::MM0, 3),
        Kind::mm_reg => (R::MM0, 1),
        Kind::xmm_or_mem | Kind::xmm_rm => (R::XMM0, 3),
        Kind::ymm_or_mem | Kind::ymm_rm => (R::YMM0, 3),
        Kind::zmm_or_mem | Kind::zmm_rm => (R::ZMM0, 3),
        Kind::xmm_reg => (R::XMM0, 1),
        Kind::ymm_reg => (R::YMM0, 1),
        Kind::zmm_reg => (R::ZMM0, 1),
        Kind::xmm_vvvv => (R::XMM0, 2),
        Kind::ymm_vvvv => (R::YMM0, 2),
        Kind::zmm_vvvv => (R::ZMM0, 2),
        Kind::xmm_is4 | Kind::xmm_is5 => (R::XMM0, 4),
        Kind::ymm_is4 | Kind::ymm_is5 => (R::YMM0, 4),
        Kind::k_or_mem | Kind::k_rm => (R::K0, 3),
        Kind::k_reg => (R::K0, 5),
        Kind::kp1_reg => (R::K0, 4),
        Kind::k_vvvv => (R::K0, 2),
        _ => return None,
    })
}

/// The handler of an instruction for a processor whose CPUID hides nothing.
fn handler(native: &mut Native, instruction: &Instruction) -> Handler {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, 0).expect("the sample is encodable");
    let features = Features::of(&[]);
    match decode_one(&encoder.take_buffer(), 64, &features, native) {
        Decoded::Op { op, .. } => op.run,
        Decoded::Fault(_) | Decoded::Truncated => undefined,
    }
}

fn is_refusal(handler: Handler) -> bool {
    let is = |other: Handler| std::ptr::fn_addr_eq(handler, other);
    is(undefined) || is(unsupported)
}

/// The instructions of vector registers that the host has.
fn host_codes() -> impl Iterator<Item = Code> {
    Code::values().filter(|code| {
        let needs = code.cpuid_features();
        let info = code.op_code();
        let vectors = (0..info.op_count()).any(|number| {
            let kind = info.op_kind(number);
            let register = register_of(kind, false).map(|(first, _)| first);
            register
                .is_some_and(|first| first.is_vector_register() || first.is_k() || first.is_mm())
        });
        vectors && info.mode64() && needs.iter().all(|&feature| host_has(feature))
    })
}

#[test]
fn every_vector_instruction_of_the_host_has_a_handler() {
    let mut native = Native::new();
    let mut missing = Vec::new();
    let (mut codes, mut samples) = (0, 0);
    for code in host_codes() {
        codes += 1;
        let forms = [false, true].map(|memory| sample(code, memory));
        assert!(forms.iter().any(Option::is_some), "{code:?} has no sample");
        for instruction in forms.iter().flatten() {
            samples += 1;
            if native.is_full() {
                native.clear();
            }
            if is_refusal(handler(&mut native, instruction)) {
                missing.push(instruction.code());
            }
        }
    }
    assert!(missing.is_empty(), "no handler: {missing:?}");
    assert!(codes > 500 && samples > codes, "{codes} codes, {samples} samples");
}
