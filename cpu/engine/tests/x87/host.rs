//! Every x87 instruction with random states, on the host and in a guest.

use cpu_defs::{Gpr, Reg, cr4};
use iced_x86::{
    Code, CpuidFeature, Encoder, Instruction, MemoryOperand, OpCodeOperandKind as Kind, OpKind,
    Register,
};

use super::guest::{Guest, START};
use super::native::{Host, State};
use super::random::Random;
use super::rings;

/// Random states for each form of each instruction.
const STATES: u32 = 60;
/// Times that the host is asked: a context switch makes AMD's processors forget the pointers.
const TRIES: u32 = 20;
const MEMORY: u64 = 0x2_0000;
const AREA: u64 = 0x2_1000;
const ENVIRONMENT: u64 = 0x2_2000;
/// `fxsave64 [rdx]; fnstenv [rcx]; hlt`
const EPILOGUE: [u8; 7] = [0x48, 0x0F, 0xAE, 0x02, 0xD9, 0x31, 0xF4];
const STATUS_FLAGS: u64 = 0x8D5;
/// CS of Linux, and of the guest.
const HOST_CS: u16 = 0x33;
const GUEST_CS: u16 = 8;
const GUEST_DS: u16 = 0x10;

fn codes() -> impl Iterator<Item = Code> {
    use CpuidFeature::{FPU, FPU287, FPU387};
    let x87 = |feature: &CpuidFeature| matches!(feature, FPU | FPU287 | FPU387);
    Code::values().filter(move |code| {
        let info = code.op_code();
        code.cpuid_features().iter().any(x87) && !info.fwait() && info.mode64()
    })
}

/// The encodings to try: ST(1) and another register, or [rdi].
fn samples(code: Code) -> Vec<Vec<u8>> {
    let info = code.op_code();
    let has_register = (0..info.op_count()).any(|n| info.op_kind(n) == Kind::sti_opcode);
    let registers = if has_register { 0..8 } else { 0..1 };
    let encode = |sti: u32| {
        let mut instruction = Instruction::new();
        instruction.set_code(code);
        for number in 0..info.op_count() {
            let register = match info.op_kind(number) {
                Kind::st0 => Register::ST0,
                Kind::sti_opcode => Register::ST0 + sti,
                Kind::ax => Register::AX,
                _ => {
                    instruction.set_op_kind(number, OpKind::Memory);
                    instruction.set_memory_base(MemoryOperand::with_base(Register::RDI).base);
                    continue;
                }
            };
            instruction.set_op_kind(number, OpKind::Register);
            instruction.set_op_register(number, register);
        }
        let mut encoder = Encoder::new(64);
        encoder.encode(&instruction, 0).expect("the sample is encodable");
        encoder.take_buffer()
    };
    registers.map(encode).collect()
}

fn run_guest(guest: &mut Guest, state: &State) -> State {
    let mut image = [0; 576];
    image[..512].copy_from_slice(&state.area.0);
    image[512] = 1;
    guest.vcpu.xrstor(&image).expect("an area");
    guest.load(MEMORY, &state.memory);
    guest.set_gpr(Gpr::Rdi, MEMORY);
    guest.set_gpr(Gpr::Rdx, AREA);
    guest.set_gpr(Gpr::Rcx, ENVIRONMENT);
    guest.set_gpr(Gpr::Rax, state.rax);
    guest.set(Reg::Rflags, state.flags | 2);
    guest.set(Reg::Rip, START);
    guest.run_to_hlt();
    State {
        area: super::native::Area(guest.read(AREA)),
        environment: guest.read(ENVIRONMENT),
        memory: guest.read(MEMORY),
        rax: guest.gpr(Gpr::Rax),
        flags: guest.vcpu.reg(Reg::Rflags) & STATUS_FLAGS,
    }
}

fn replace<const N: usize>(bytes: &mut [u8], from: [u8; N], to: [u8; N]) -> bool {
    let found = bytes[..N] == from;
    if found {
        bytes[..N].copy_from_slice(&to);
    }
    found
}

/// The host saves no selectors of instructions and operands (CPUID.7.0:EBX\[13\]).
fn zeroes_selectors() -> bool {
    std::arch::x86_64::__cpuid_count(7, 0).ebx >> 13 & 1 != 0
}

/// The host's result with the guest's addresses and selectors, as far as the instruction noted
/// its own.
fn in_guest_terms(mut state: State, host: &Host, operand: u64) -> State {
    let wide = |value: u64| value.to_le_bytes();
    let narrow = |value: u64| (value as u32).to_le_bytes();
    let (at, area, environment) = (host.instruction(), &mut state.area.0, &mut state.environment);
    replace(&mut area[8..], wide(at), wide(START));
    replace(&mut area[16..], wide(operand), wide(MEMORY));
    if replace(&mut environment[12..], narrow(at), narrow(START)) {
        replace(&mut environment[16..], HOST_CS.to_le_bytes(), GUEST_CS.to_le_bytes());
    }
    if replace(&mut environment[20..], narrow(operand), narrow(MEMORY)) && !zeroes_selectors() {
        replace(&mut environment[24..], [0; 2], GUEST_DS.to_le_bytes());
    }
    area[28..32].fill(0);
    area[160..].fill(0);
    state.flags &= STATUS_FLAGS;
    state
}

fn difference(guest: &State, host: &State) -> Option<String> {
    let first = |name: &str, guest: &[u8], host: &[u8]| {
        let at = (0..guest.len()).find(|&at| guest[at] != host[at])?;
        let end = (at / 10 * 10 + 10).min(guest.len());
        let start = at / 10 * 10;
        Some(format!(
            "{name}+{start}: {:02x?}, host {:02x?}",
            &guest[start..end],
            &host[start..end]
        ))
    };
    first("area", &guest.area.0[..24], &host.area.0[..24])
        .or_else(|| first("registers", &guest.area.0[32..160], &host.area.0[32..160]))
        .or_else(|| first("environment", &guest.environment, &host.environment))
        .or_else(|| first("memory", &guest.memory, &host.memory))
        .or_else(|| first("rax", &guest.rax.to_le_bytes(), &host.rax.to_le_bytes()))
        .or_else(|| first("flags", &guest.flags.to_le_bytes(), &host.flags.to_le_bytes()))
}

#[test]
fn every_instruction_does_what_the_host_does() {
    let mut guest = rings::supervisor(cr4::OSFXSR, |a| a.nop().unwrap());
    let mut host = Host::new();
    let mut random = Random::new(0x1234_5678_9ABC_DEF1);
    let mut count = 0;
    for code in codes() {
        for instruction in samples(code) {
            host.load(&instruction);
            guest.load(START, &[instruction.as_slice(), &EPILOGUE].concat());
            for _ in 0..STATES {
                let before = random.state();
                let after = run_guest(&mut guest, &before);
                let ask = || {
                    let mut expected = before.clone();
                    let operand = host.run(&mut expected);
                    difference(&after, &in_guest_terms(expected, &host, operand))
                };
                let mut found = ask();
                for _ in 1..TRIES {
                    found = found.and_then(|_| ask());
                }
                assert_eq!(found, None, "{code:?} {instruction:02x?} on {:02x?}", before.area.0);
            }
            count += 1;
        }
    }
    assert!(count > 350, "{count}");
}
