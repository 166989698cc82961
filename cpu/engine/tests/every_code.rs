//! Every instruction that the supported CPUID announces executes, in each mode it is legal in.
//!
//! The forms are found by decoding: opcodes of all maps, with the prefixes that select a form and
//! a register and a memory operand. An instruction fails the test if it raises #UD or ends in an
//! emulation failure; other exceptions are its own business.

mod guest;

use std::collections::BTreeMap;

use cpu_defs::{Gpr, Reg, SegField, SegReg, TableField, cr4, msr};
use cpu_engine::{Exit, supported_cpuid};
use cpu_interp::Features;
use guest::{Guest, PML4, START, descriptor, gate, long_gate};
use iced_x86::{
    Code, CpuidFeature, Decoder, DecoderOptions, Instruction, Mnemonic, OpCodeInfo, OpCodeTableKind,
};

const IDT: u64 = 0x6000;
const GDT: u64 = 0x5000;
/// Handlers of all vectors, one HLT each.
const HANDLERS: u64 = 0x9000;
const STACK: u64 = 0x8800;
/// What every general register but RSP holds: memory, and a code address.
const DATA: u64 = 0x7000;
/// Bits of CR4 that instructions need: OSFXSR, FSGSBASE, OSXSAVE, PKE.
const CR4_NEEDED: u64 = cr4::OSFXSR | cr4::FSGSBASE | cr4::OSXSAVE | cr4::PKE;
const MODES: [u32; 3] = [16, 32, 64];

/// The vector instructions and those of x87 have tests of their own.
const ELSEWHERE: [CpuidFeature; 3] =
    [CpuidFeature::FPU, CpuidFeature::FPU287, CpuidFeature::FPU387];

/// Whether the test is about this code at all.
fn is_subject(features: &Features, code: Code) -> bool {
    let needs = code.cpuid_features();
    let vectors = |feature: &CpuidFeature| {
        let name = format!("{feature:?}");
        ["SSE", "AVX", "MMX", "FXSR", "XSAVE", "AES", "SHA", "GFNI", "VAES", "PCLMUL", "VPCLMUL"]
            .iter()
            .any(|family| name.starts_with(family))
            || ["FMA", "F16C"].contains(&name.as_str())
            || ELSEWHERE.contains(feature)
    };
    let integer = [Mnemonic::Crc32, Mnemonic::Movnti, Mnemonic::Mfence, Mnemonic::Sfence];
    features.announces(needs) && (!needs.iter().any(vectors) || integer.contains(&code.mnemonic()))
}

fn legal(code: Code, bits: u32, amd: bool) -> bool {
    let info = code.op_code();
    info.is_instruction()
        && info.decoder_option() == DecoderOptions::NONE
        && !is_hint(info)
        && match (bits, amd) {
            (16, false) => info.intel_decoder16(),
            (32, false) => info.intel_decoder32(),
            (_, false) => info.intel_decoder64(),
            (16, true) => info.amd_decoder16(),
            (32, true) => info.amd_decoder32(),
            (_, true) => info.amd_decoder64(),
        }
}

/// Raises #UD by definition: RSM outside of system management mode, fast calls where the vendor has
/// none.
fn is_undefined(mnemonic: Mnemonic, bits: u32, amd: bool) -> bool {
    match mnemonic {
        Mnemonic::Ud0 | Mnemonic::Ud1 | Mnemonic::Ud2 | Mnemonic::Rsm => true,
        Mnemonic::Sysenter | Mnemonic::Sysexit | Mnemonic::Sysexitq => amd && bits == 64,
        Mnemonic::Syscall | Mnemonic::Sysret => !amd && bits != 64,
        _ => false,
    }
}

/// Decoded as reserved NOPs.
fn is_hint(info: &OpCodeInfo) -> bool {
    info.table() == OpCodeTableKind::T0F && matches!(info.op_code(), 0x0D | 0x18..=0x1F)
}

/// Prefixes that select forms.
fn prefixes(bits: u32) -> Vec<Vec<u8>> {
    let simple: [&[u8]; 12] = [
        &[],
        &[0x66],
        &[0x67],
        &[0xF2],
        &[0xF3],
        &[0x66, 0x67],
        &[0x66, 0xF2],
        &[0x66, 0xF3],
        &[0x67, 0xF2],
        &[0x67, 0xF3],
        &[0x66, 0x67, 0xF3],
        &[0x9B],
    ];
    let plain = simple.iter().map(|prefix| prefix.to_vec());
    let wide = simple.iter().filter(|_| bits == 64).map(|prefix| [prefix, &[0x48][..]].concat());
    plain.chain(wide).collect()
}

/// Opcodes of the legacy maps and of VEX with vector length 0.
fn opcodes(bits: u32) -> Vec<Vec<u8>> {
    let mut opcodes = Vec::new();
    for opcode in 0..=255_u8 {
        opcodes.push(vec![opcode]);
        opcodes.push(vec![0x0F, opcode]);
        opcodes.push(vec![0x0F, 0x38, opcode]);
        opcodes.push(vec![0x0F, 0x3A, opcode]);
    }
    let wide: &[u8] = if bits == 64 { &[0, 0x80] } else { &[0] };
    for (map, pp) in (1..=3_u8).flat_map(|map| (0..4_u8).map(move |pp| (map, pp))) {
        for (w, opcode) in wide.iter().flat_map(|w| (0..=255_u8).map(move |opcode| (w, opcode))) {
            opcodes.push(vec![0xC4, 0xE0 | map, w | 0x78 | pp, opcode]);
        }
    }
    opcodes
}

/// The bytes that decode to each code in a mode.
fn forms(bits: u32, features: &Features) -> BTreeMap<usize, (Code, Vec<u8>)> {
    // [BX], [EBX], [RBX] and registers.
    let memory = if bits == 16 { 7 } else { 3 };
    let modrms: Vec<u8> = (0..8).map(|reg| reg << 3 | memory).chain(0xC0..=0xFF).collect();
    let mut forms = BTreeMap::new();
    let mut instruction = Instruction::default();
    let options = features.decoder_options();
    for prefix in prefixes(bits) {
        for opcode in opcodes(bits) {
            for &modrm in &modrms {
                let mut bytes = [&prefix[..], &opcode, &[modrm, 1, 0, 0, 0, 0, 0, 0, 0]].concat();
                bytes.truncate(15);
                let mut decoder = Decoder::new(bits, &bytes, options);
                decoder.decode_out(&mut instruction);
                let code = instruction.code();
                if code != Code::INVALID {
                    forms.entry(code as usize).or_insert_with(|| (code, bytes.clone()));
                }
            }
        }
    }
    forms
}

/// Ring 0 of a mode, with paging off but in 64-bit code.
fn machine(bits: u32) -> Guest {
    let nothing = |_: &mut iced_x86::code_asm::CodeAssembler| {};
    if bits == 64 { Guest::long_mode(nothing) } else { Guest::protected_mode(nothing) }
}

/// Descriptor tables with every exception at a HLT.
fn build_tables(guest: &mut Guest, bits: u32) {
    let size = match bits {
        16 => 0x0,
        32 => 0x4,
        _ => 0x2,
    };
    guest.write_u64(GDT + 8, descriptor(0, 0xF_FFFF, 0x9B, 0x8 | size));
    guest.write_u64(GDT + 16, descriptor(0, 0xF_FFFF, 0x93, 0xC));
    guest.set(Reg::Gdtr(TableField::Base), GDT);
    guest.set(Reg::Gdtr(TableField::Limit), 0x1F);
    guest.set(Reg::Idtr(TableField::Base), IDT);
    guest.set(Reg::Idtr(TableField::Limit), 0xFFF);
    for vector in 0..32_u64 {
        let handler = HANDLERS + vector;
        guest.load(handler, &[0xF4]);
        if bits == 64 {
            guest.load(IDT + vector * 16, &long_gate(8, handler, 0x8E, 0));
        } else {
            guest.write_u64(IDT + vector * 8, gate(8, handler as u32, 0x8E, 0));
        }
    }
}

/// Puts back what an instruction of the test may have changed.
fn reset(guest: &mut Guest, bits: u32, initial: &[(Reg, u64)], guest_cr4: u64) {
    for &(reg, value) in initial {
        guest.set(reg, value);
    }
    for gpr in [Gpr::Rax, Gpr::Rcx, Gpr::Rdx, Gpr::Rbx, Gpr::Rbp, Gpr::Rsi, Gpr::Rdi] {
        guest.set_gpr(gpr, DATA);
    }
    guest.set_gpr(Gpr::Rsp, STACK);
    guest.set(Reg::Rflags, 2);
    guest.set(Reg::Dr7, 0);
    if bits == 16 {
        guest.set(Reg::Segment(SegReg::Cs, SegField::Attrib), 0x809B);
    }
    let cr4 = initial.iter().find(|(reg, _)| *reg == Reg::Cr4).expect("CR4 is kept").1;
    guest.set(Reg::Cr4, cr4 | (CR4_NEEDED & guest_cr4));
    if bits == 64 {
        guest.set(Reg::Cr3, PML4);
    }
    guest.load(DATA, &[0; 64]);
    let efer = if bits == 64 { 0xD01 } else { 1 };
    guest.vcpu.set_msr(msr::EFER, efer).expect("EFER is legal");
    build_tables(guest, bits);
}

#[test]
fn every_announced_instruction_executes_in_every_mode() {
    let features = Features::of(&supported_cpuid());
    let mut failures = Vec::new();
    for bits in MODES {
        let mut guest = machine(bits);
        let initial: Vec<_> =
            guest::state_registers().into_iter().map(|reg| (reg, guest.vcpu.reg(reg))).collect();
        let forms = forms(bits, &features);
        for code in Code::values().filter(|&code| is_subject(&features, code)) {
            if !legal(code, bits, features.amd) {
                continue;
            }
            let Some((_, bytes)) = forms.get(&(code as usize)) else {
                failures.push(format!("{bits}: no bytes for {code:?}"));
                continue;
            };
            if is_undefined(code.mnemonic(), bits, features.amd) {
                continue;
            }
            reset(&mut guest, bits, &initial, features.cr4);
            guest.load(START, bytes);
            let exit = guest.vcpu.step();
            let undefined = guest.rip() == HANDLERS + 6;
            let failed = matches!(exit, Some(Exit::EmulationFailure { .. } | Exit::Shutdown));
            if undefined || failed {
                failures.push(format!("{bits}: {code:?} {bytes:02X?} {exit:?}"));
            }
        }
    }
    assert!(failures.is_empty(), "{} fail:\n{}", failures.len(), failures.join("\n"));
}
