//! No instruction of x87, MXCSR and the XSAVE family is left out.

use iced_x86::{Code, CpuidFeature, Encoder, Instruction, OpCodeOperandKind as Kind, Register};
use iced_x86::{MemoryOperand, OpKind};

use super::{undefined, unsupported};
use crate::decode::{Decoded, decode_one};
use crate::features::Features;
use crate::native::Native;
use crate::op::Handler;

fn codes() -> impl Iterator<Item = Code> {
    use CpuidFeature as F;
    Code::values().filter(|code| {
        let wanted = |feature: &F| {
            matches!(
                feature,
                F::FPU
                    | F::FPU287
                    | F::FPU387
                    | F::FXSR
                    | F::XSAVE
                    | F::XSAVEC
                    | F::XSAVEOPT
                    | F::XSAVES
            )
        };
        let info = code.op_code();
        let control = matches!(
            code,
            Code::Wait
                | Code::Ldmxcsr_m32
                | Code::Stmxcsr_m32
                | Code::VEX_Vldmxcsr_m32
                | Code::VEX_Vstmxcsr_m32
        );
        // Those with FWAIT are two instructions.
        (control || code.cpuid_features().iter().any(wanted)) && !info.fwait() && info.mode64()
    })
}

fn sample(code: Code) -> Instruction {
    let info = code.op_code();
    let mut instruction = Instruction::new();
    instruction.set_code(code);
    for number in 0..info.op_count() {
        let register = match info.op_kind(number) {
            Kind::st0 => Register::ST0,
            Kind::sti_opcode => Register::ST3,
            Kind::ax => Register::AX,
            _ => {
                instruction.set_op_kind(number, OpKind::Memory);
                instruction.set_memory_base(MemoryOperand::with_base(Register::RBX).base);
                continue;
            }
        };
        instruction.set_op_kind(number, OpKind::Register);
        instruction.set_op_register(number, register);
    }
    instruction
}

fn handler(native: &mut Native, instruction: &Instruction) -> Handler {
    let mut encoder = Encoder::new(64);
    encoder.encode(instruction, 0).expect("the sample is encodable");
    match decode_one(&encoder.take_buffer(), 64, &Features::of(&[]), native) {
        Decoded::Op { op, .. } => op.run,
        Decoded::Fault(_) | Decoded::Truncated => undefined,
    }
}

#[test]
fn every_instruction_has_a_handler() {
    let mut native = Native::new();
    let mut count = 0;
    for code in codes() {
        let handler = handler(&mut native, &sample(code));
        let is = |other: Handler| std::ptr::fn_addr_eq(handler, other);
        assert!(!is(undefined) && !is(unsupported), "{code:?}");
        count += 1;
    }
    assert!(count > 165, "{count}");
}
