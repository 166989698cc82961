//! Vector instructions in 16- and 32-bit code, and what CPUID announces.

mod guest;

use cpu_defs::{CpuidWord, Gpr, Reg, cpuid_bit as bit};
use cpu_engine::{Exit, supported_cpuid};
use guest::{Guest, START};
use iced_x86::code_asm::*;

const OSFXSR: u64 = 1 << 9;
const DATA: u64 = 0x4000;

#[test]
fn sse_works_in_real_mode() {
    let mut guest = Guest::real_mode(|a| {
        a.movups(xmm1, xmmword_ptr(si)).unwrap();
        a.paddd(xmm1, xmm1).unwrap();
        a.movups(xmmword_ptr(di + 0x10), xmm1).unwrap();
        a.movd(ebx, xmm1).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Cr4, OSFXSR);
    guest.write_u64(DATA, 0x0000_0002_4000_0001);
    guest.set_gpr(Gpr::Rsi, DATA);
    guest.set_gpr(Gpr::Rdi, DATA);
    guest.run_to_hlt();
    assert_eq!(guest.read_u64(DATA + 0x10), 0x0000_0004_8000_0002);
    assert_eq!(guest.gpr(Gpr::Rbx), 0x8000_0002);
}

#[test]
fn sse_and_mmx_work_in_32_bit_code() {
    let mut guest = Guest::protected_mode(|a| {
        a.movq(mm1, qword_ptr(esi)).unwrap();
        a.paddb(mm1, mm1).unwrap();
        a.movd(ecx, mm1).unwrap();
        a.emms().unwrap();
        a.cvtsi2sd(xmm7, dword_ptr(esi + ecx * 1 - 0x0604_0200 + 8)).unwrap();
        a.sqrtsd(xmm7, xmm7).unwrap();
        a.cvttsd2si(edx, xmm7).unwrap();
        a.pextrw(ebp, xmm7, 3).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Cr4, OSFXSR);
    guest.load(DATA, &[0, 1, 2, 3, 4, 5, 6, 7, 144, 0, 0, 0]);
    guest.set_gpr(Gpr::Rsi, DATA);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rcx), 0x0604_0200);
    assert_eq!(guest.gpr(Gpr::Rdx), 12);
    assert_eq!(guest.gpr(Gpr::Rbp), 0x4028);
}

#[test]
fn vex_is_undefined_in_real_mode() {
    let mut guest = Guest::real_mode(|a| a.db(&[0xC5, 0xF1, 0xFC, 0xC9]).unwrap());
    guest.load(6 * 4, &0x3000_u32.to_le_bytes());
    guest.load(0x3000, &[0xF4]);
    assert_eq!(guest.run(), Exit::Hlt);
    let frame = guest.read::<2>(guest.gpr(Gpr::Rsp));
    assert_eq!(u64::from(u16::from_le_bytes(frame)), START);
}

#[test]
fn the_vector_features_of_the_host_are_announced() {
    let table = supported_cpuid();
    let announced = |word: CpuidWord| {
        let (function, index, reg) = word.position();
        let entry = table.iter().find(|entry| (entry.function, entry.index) == (function, index));
        entry.map_or(0, |entry| reg.of(entry))
    };
    for (bit, host) in [
        (bit::MMX, true),
        (bit::SSE2, true),
        (bit::SSE4_2, is_x86_feature_detected!("sse4.2")),
        (bit::AES, is_x86_feature_detected!("aes")),
        (bit::SHA, is_x86_feature_detected!("sha")),
        (bit::AVX2, is_x86_feature_detected!("avx2")),
        (bit::AVX512BW, is_x86_feature_detected!("avx512bw")),
        (bit::AVX512_BF16, is_x86_feature_detected!("avx512bf16")),
        (bit::MISALIGN_SSE, false),
    ] {
        assert_eq!(announced(bit.word) & bit.mask() != 0, host, "{bit:?}");
    }
}
