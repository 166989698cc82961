//! The younger integer instructions, and where the vendors' old ones differ.

mod guest;

use cpu_defs::{
    CpuidBit, CpuidEntry, CpuidReg, Gpr, Reg, SegField, SegReg, TableField, cpuid_bit as bit, msr,
};
use cpu_engine::{Exit, Personality, supported_cpuid, supported_cpuid_as};
use guest::{Guest, RAM, START};
use iced_x86::code_asm::*;

const CF: u64 = 1;
const OF: u64 = 1 << 11;
const DATA: u64 = 0x7000;

fn run(program: impl FnOnce(&mut CodeAssembler)) -> Guest {
    let mut guest = Guest::long_mode(program);
    guest.set(Reg::Cr4, guest.vcpu.reg(Reg::Cr4) | 1 << 16);
    guest.run_to_hlt();
    guest
}

/// The supported table of another vendor, with a bit added.
fn table(vendor: &[u8; 12], extra: Option<CpuidBit>) -> Vec<CpuidEntry> {
    let word = |at: usize| u32::from_le_bytes(vendor[at..at + 4].try_into().expect("four"));
    let mut table = supported_cpuid_as(Personality::Amd);
    for entry in &mut table {
        if entry.function & 0x7FFF_FFFF == 0 {
            (entry.ebx, entry.edx, entry.ecx) = (word(0), word(4), word(8));
        }
    }
    if let Some(bit) = extra {
        let (function, index, reg) = bit.word.position();
        for entry in table.iter_mut().filter(|e| (e.function, e.index) == (function, index)) {
            match reg {
                CpuidReg::Eax => entry.eax |= bit.mask(),
                CpuidReg::Ebx => entry.ebx |= bit.mask(),
                CpuidReg::Ecx => entry.ecx |= bit.mask(),
                CpuidReg::Edx => entry.edx |= bit.mask(),
            }
        }
    }
    table
}

const INTEL: &[u8; 12] = b"GenuineIntel";
const AMD: &[u8; 12] = b"AuthenticAMD";

#[test]
fn mulx_gives_both_halves_and_the_upper_one_to_a_shared_destination() {
    let guest = run(|a| {
        a.mov(rdx, 0xFFFF_FFFF_FFFF_FFFF_u64).unwrap();
        a.mov(rax, 16_u64).unwrap();
        a.mulx(rbx, rcx, rax).unwrap();
        a.mulx(rsi, rsi, rax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((guest.gpr(Gpr::Rbx), guest.gpr(Gpr::Rcx)), (15, 0xFFFF_FFFF_FFFF_FFF0));
    assert_eq!(guest.gpr(Gpr::Rsi), 15);
}

#[test]
fn vex_shifts_leave_the_flags_and_take_the_count_modulo_the_size() {
    let guest = run(|a| {
        a.mov(eax, 0x8000_0001_u32 as i32).unwrap();
        a.mov(ecx, 33).unwrap();
        a.stc().unwrap();
        a.sarx(ebx, eax, ecx).unwrap();
        a.shlx(edx, eax, ecx).unwrap();
        a.shrx(esi, eax, ecx).unwrap();
        a.rorx(edi, eax, 4).unwrap();
        a.rorx(r8, rax, 4).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.gpr(Gpr::Rbx), 0xC000_0000);
    assert_eq!(guest.gpr(Gpr::Rdx), 2);
    assert_eq!(guest.gpr(Gpr::Rsi), 0x4000_0000);
    assert_eq!(guest.gpr(Gpr::Rdi), 0x1800_0000);
    assert_eq!(guest.gpr(Gpr::R8), 0x1000_0000_0800_0000);
    assert_eq!(guest.vcpu.reg(Reg::Rflags) & CF, CF);
}

#[test]
fn vex_instructions_do_not_exist_in_real_mode() {
    // ANDN EAX, EAX, EBX; the #UD handler is HLT.
    let mut guest = Guest::real_mode(|a| a.db(&[0xC4, 0xE2, 0x78, 0xF2, 0xC3]).unwrap());
    guest.load(6 * 4, &[0x00, 0x90, 0x00, 0x00]);
    guest.load(0x9000, &[0xF4]);
    assert_eq!((guest.run(), guest.rip()), (Exit::Hlt, 0x9001));
}

#[test]
fn adcx_and_adox_are_two_chains() {
    let guest = run(|a| {
        a.xor(eax, eax).unwrap();
        a.mov(rbx, u64::MAX).unwrap();
        a.mov(rcx, 1_u64).unwrap();
        a.adcx(rbx, rcx).unwrap();
        a.mov(rdx, 5_u64).unwrap();
        a.adox(rdx, rcx).unwrap();
        a.adcx(rdx, rcx).unwrap();
        a.stc().unwrap();
        a.mov(rsi, u64::MAX).unwrap();
        a.adox(rsi, rcx).unwrap();
        a.hlt().unwrap();
    });
    // RBX wraps and carries; RDX = 5 + 1 (OF clear) + 1 + 1 (CF set); RSI wraps into OF.
    let values = [Gpr::Rbx, Gpr::Rdx, Gpr::Rsi].map(|gpr| guest.gpr(gpr));
    assert_eq!(values, [0, 8, 0]);
    assert_eq!(guest.vcpu.reg(Reg::Rflags) & (CF | OF), CF | OF);
}

#[test]
fn crc32_of_the_check_string_is_the_published_one() {
    let guest = run(|a| {
        a.mov(eax, -1).unwrap();
        a.mov(rbx, u64::from_le_bytes(*b"12345678")).unwrap();
        a.crc32(rax, rbx).unwrap();
        a.mov(ecx, i32::from(b'9')).unwrap();
        a.crc32(eax, cl).unwrap();
        a.not(eax).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.gpr(Gpr::Rax), 0xE306_9283);
}

#[test]
fn a_random_number_comes_with_carry_and_no_other_flag() {
    let supported = supported_cpuid();
    if !supported.iter().any(|entry| entry.function == 1 && entry.ecx >> 30 & 1 != 0) {
        return;
    }
    let guest = run(|a| {
        a.rdrand(rax).unwrap();
        a.hlt().unwrap();
    });
    let flags = guest.vcpu.reg(Reg::Rflags) & 0x8D5;
    assert!(flags == CF || (flags == 0 && guest.gpr(Gpr::Rax) == 0));
}

#[test]
fn movbe_swaps_on_the_way_to_and_from_memory() {
    let guest = run(|a| {
        a.mov(rax, 0x0102_0304_0506_0708_u64).unwrap();
        a.mov(ebx, DATA as u32).unwrap();
        a.movbe(qword_ptr(rbx), rax).unwrap();
        a.movbe(cx, word_ptr(rbx)).unwrap();
        a.movbe(edx, dword_ptr(rbx)).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!(guest.read::<8>(DATA), [1, 2, 3, 4, 5, 6, 7, 8]);
    assert_eq!((guest.gpr(Gpr::Rcx) & 0xFFFF, guest.gpr(Gpr::Rdx)), (0x0102, 0x0102_0304));
}

#[test]
fn fs_and_gs_bases_are_read_and_written_in_both_sizes() {
    let guest = run(|a| {
        a.mov(rax, 0x1234_5678_9ABC_u64).unwrap();
        a.wrfsbase(rax).unwrap();
        a.wrgsbase(eax).unwrap();
        a.rdfsbase(ecx).unwrap();
        a.rdgsbase(rdx).unwrap();
        a.hlt().unwrap();
    });
    let base = |reg| guest.vcpu.reg(Reg::Segment(reg, SegField::Base));
    assert_eq!((base(SegReg::Fs), base(SegReg::Gs)), (0x1234_5678_9ABC, 0x5678_9ABC));
    assert_eq!((guest.gpr(Gpr::Rcx), guest.gpr(Gpr::Rdx)), (0x5678_9ABC, 0x5678_9ABC));
}

#[test]
fn rdfsbase_needs_its_bit_of_cr4_and_wrfsbase_a_canonical_base() {
    let mut guest = Guest::long_mode(|a| a.rdfsbase(rax).unwrap());
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!(guest.rip(), START);
    let mut guest = Guest::long_mode(|a| a.wrfsbase(rax).unwrap());
    guest.set(Reg::Cr4, guest.vcpu.reg(Reg::Cr4) | 1 << 16);
    guest.set_gpr(Gpr::Rax, 1 << 60);
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Fs, SegField::Base)), 0);
}

#[test]
fn rdpid_reads_tsc_aux() {
    let mut guest = Guest::long_mode(|a| {
        a.rdpid(rbx).unwrap();
        a.hlt().unwrap();
    });
    guest.vcpu.set_msr(msr::TSC_AUX, 0xCAFE).unwrap();
    guest.set_gpr(Gpr::Rbx, u64::MAX);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rbx), 0xCAFE);
}

#[test]
fn clzero_clears_the_line_around_the_address() {
    let mut guest = Guest::long_mode(|a| {
        a.clzero().unwrap();
        a.hlt().unwrap();
    });
    guest.vcpu.set_cpuid(table(AMD, Some(bit::CLZERO)));
    guest.load(DATA, &[0xFF; 192]);
    guest.set_gpr(Gpr::Rax, DATA + 64 + 17);
    guest.run_to_hlt();
    let line = |number: u64| guest.read::<64>(DATA + number * 64);
    assert_eq!((line(0), line(1), line(2)), ([0xFF; 64], [0; 64], [0xFF; 64]));
}

#[test]
fn clzero_wants_the_whole_line_in_the_segment() {
    for (limit, faults) in [(127, false), (126, true)] {
        let mut guest = Guest::protected_mode(|a| {
            a.clzero().unwrap();
            a.hlt().unwrap();
        });
        guest.vcpu.set_cpuid(table(AMD, Some(bit::CLZERO)));
        guest.set(Reg::Segment(SegReg::Ds, SegField::Limit), DATA + limit);
        guest.set_gpr(Gpr::Rax, DATA + 64 + 17);
        assert_eq!(guest.run() == Exit::Shutdown, faults, "limit {limit}");
    }
}

#[test]
fn flushing_a_line_of_a_device_does_not_touch_the_device() {
    let mut guest = Guest::protected_mode(|a| {
        a.clflush(byte_ptr(eax)).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rax, RAM);
    guest.run_to_hlt();
}

#[test]
fn lock_mov_cr0_is_mov_cr8_where_amd_announces_it() {
    let program = |a: &mut CodeAssembler| {
        a.mov(eax, 9).unwrap();
        a.db(&[0xF0, 0x0F, 0x22, 0xC0]).unwrap();
        a.hlt().unwrap();
    };
    let mut guest = Guest::protected_mode(program);
    guest.vcpu.set_cpuid(table(AMD, Some(bit::ALT_MOV_CR8)));
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.reg(Reg::Cr8), 9);
    let mut guest = Guest::protected_mode(program);
    guest.vcpu.set_cpuid(table(INTEL, Some(bit::ALT_MOV_CR8)));
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!(guest.vcpu.reg(Reg::Cr8), 0);
}

#[test]
fn a_pushed_selector_is_zero_extended_by_amd_and_16_bits_by_intel() {
    for (vendor, upper) in [(AMD, 0), (INTEL, 0xAAAA)] {
        let mut guest = Guest::protected_mode(|a| {
            a.push(ds).unwrap();
            a.hlt().unwrap();
        });
        guest.vcpu.set_cpuid(table(vendor, None));
        guest.load(START - 4, &[0xAA; 4]);
        guest.run_to_hlt();
        assert_eq!(u32::from_le_bytes(guest.read(START - 4)), upper << 16 | 0x10);
    }
}

#[test]
fn a_near_branch_with_66_is_16_bits_wide_on_amd_alone() {
    // 66 JMP +0 (rel16 or rel32), then HLT or NOPs.
    let code = [0x66, 0xE9, 0x00, 0x00, 0x90, 0x90, 0xF4];
    let mut guest = Guest::long_mode(|a| a.db(&code).unwrap());
    guest.vcpu.set_cpuid(table(AMD, None));
    guest.run_to_hlt();
    assert_eq!(guest.rip(), START + 7);
    let mut guest = Guest::long_mode(|a| a.db(&[0x66, 0xE9, 0, 0, 0, 0, 0xF4]).unwrap());
    guest.vcpu.set_cpuid(table(INTEL, None));
    guest.run_to_hlt();
    assert_eq!(guest.rip(), START + 7);
}

#[test]
fn sysret_to_a_non_canonical_address_faults_in_the_kernel_on_intel_alone() {
    for (vendor, level) in [(INTEL, 0), (AMD, 3)] {
        let mut guest = Guest::long_mode(|a| a.sysretq().unwrap());
        guest.vcpu.set_cpuid(table(vendor, None));
        guest.vcpu.set_msr(msr::STAR, 0x001B_0008_0000_0000).unwrap();
        guest.set_gpr(Gpr::Rcx, 1 << 60);
        guest.set_gpr(Gpr::R11, 2);
        assert_eq!(guest.run(), Exit::Shutdown);
        let attrib = guest.vcpu.reg(Reg::Segment(SegReg::Ss, SegField::Attrib));
        assert_eq!(attrib >> 5 & 3, level);
    }
}

#[test]
fn a_null_selector_keeps_the_base_on_amd_unless_announced() {
    let clears = bit::NULL_SELECTOR_CLEARS_BASE;
    for (vendor, announced, base) in [(AMD, false, 0x1234), (AMD, true, 0), (INTEL, false, 0)] {
        let mut guest = Guest::long_mode(|a| {
            a.xor(eax, eax).unwrap();
            a.mov(fs, eax).unwrap();
            a.hlt().unwrap();
        });
        let mut cpuid = table(vendor, announced.then_some(clears));
        if !announced {
            cpuid.retain(|entry| entry.function != clears.word.position().0);
        }
        guest.vcpu.set_cpuid(cpuid);
        guest.set(Reg::Segment(SegReg::Fs, SegField::Base), 0x1234);
        guest.run_to_hlt();
        assert_eq!(guest.vcpu.reg(Reg::Segment(SegReg::Fs, SegField::Base)), base);
    }
}

#[test]
fn opcode_90_with_rex_b_exchanges_even_behind_a_repeat_prefix() {
    let guest = run(|a| {
        a.mov(rax, 1_u64).unwrap();
        a.mov(r8, 2_u64).unwrap();
        a.db(&[0xF3, 0x41, 0x90]).unwrap();
        a.hlt().unwrap();
    });
    assert_eq!((guest.gpr(Gpr::Rax), guest.gpr(Gpr::R8)), (2, 1));
}

#[test]
fn a_repeat_prefix_turns_loope_round_on_amd_alone() {
    // REPNE LOOPE +1 over INC EAX, with ZF clear; HLT.
    let code = [0xF2, 0xE1, 0x01, 0x40, 0xF4];
    for (vendor, counted) in [(AMD, 0), (INTEL, 1)] {
        let mut guest = Guest::protected_mode(|a| a.db(&code).unwrap());
        guest.vcpu.set_cpuid(table(vendor, None));
        guest.set_gpr(Gpr::Rcx, 5);
        guest.run_to_hlt();
        assert_eq!(guest.gpr(Gpr::Rax), counted);
    }
}

#[test]
fn lar_shows_the_upper_limit_bits() {
    let mut guest = Guest::protected_mode(|a| {
        a.mov(eax, 8).unwrap();
        a.lar(ebx, eax).unwrap();
        a.hlt().unwrap();
    });
    guest.set(Reg::Gdtr(TableField::Base), DATA);
    guest.set(Reg::Gdtr(TableField::Limit), 15);
    guest.write_u64(DATA + 8, guest::descriptor(0x1234_5678, 0xA_FFFF, 0x93, 0xC));
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rbx), 0x00CA_9300);
}

#[test]
fn arpl_that_changes_nothing_stores_nothing() {
    let mut guest = Guest::protected_mode(|a| {
        a.arpl(word_ptr(ebx).cs(), ax).unwrap();
        a.hlt().unwrap();
    });
    guest.set_gpr(Gpr::Rbx, DATA);
    guest.load(DATA, &[3, 0]);
    guest.run_to_hlt();
    assert_eq!(guest.vcpu.reg(Reg::Rflags) & 0x40, 0);
}

#[test]
fn clzero_with_a_repeat_prefix_is_undefined() {
    let mut guest = Guest::protected_mode(|a| a.db(&[0xF2, 0x0F, 0x01, 0xFC]).unwrap());
    guest.vcpu.set_cpuid(table(AMD, Some(bit::CLZERO)));
    guest.set_gpr(Gpr::Rax, DATA);
    guest.load(DATA, &[1]);
    assert_eq!(guest.run(), Exit::Shutdown);
    assert_eq!(guest.read::<1>(DATA), [1]);
}

#[test]
fn strings_are_moved_up_and_down_without_a_prefix() {
    const TO: u64 = DATA + 0x800;
    let mut guest = Guest::long_mode(|a| {
        let (mut up, mut down) = (a.create_label(), a.create_label());
        a.mov(esi, DATA as u32).unwrap();
        a.mov(edi, TO as u32).unwrap();
        a.mov(ecx, 100).unwrap();
        a.set_label(&mut up).unwrap();
        a.lodsb().unwrap();
        a.inc(al).unwrap();
        a.stosb().unwrap();
        a.movsb().unwrap();
        a.dec(ecx).unwrap();
        a.jnz(up).unwrap();
        a.mov(ecx, 10).unwrap();
        a.std().unwrap();
        a.set_label(&mut down).unwrap();
        a.movsw().unwrap();
        a.lodsw().unwrap();
        a.stosw().unwrap();
        a.dec(ecx).unwrap();
        a.jnz(down).unwrap();
        a.cld().unwrap();
        a.hlt().unwrap();
    });
    let data: Vec<u8> = (0..=255).collect();
    guest.load(DATA, &data);
    guest.run_to_hlt();
    let mut expected: Vec<u8> =
        data.chunks(2).flat_map(|pair| [pair[0] + 1, pair[1]]).take(200).chain([0; 2]).collect();
    for word in 0..20 {
        let (from, to) = (200 - 2 * word, expected.len() - 2 - 2 * word);
        expected[to..to + 2].copy_from_slice(&data[from..from + 2]);
    }
    assert_eq!(guest.read::<202>(TO)[..], expected);
    assert_eq!(guest.gpr(Gpr::Rsi), DATA + 200 - 40);
    assert_eq!(guest.gpr(Gpr::Rdi), TO + 200 - 40);
}
