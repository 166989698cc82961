//! The state as the host of the vCPU reads and writes it.

use cpu_defs::{Gpr, Reg, cr4};
use cpu_engine::XsaveError;

use super::native::Area;
use super::{AT, components, guest, state, state_with_error};

#[test]
fn what_was_set_is_read() {
    let mut guest = guest(&[0x90]);
    for area in [state(components(), 7), state_with_error(components(), 8)] {
        assert_eq!(guest.vcpu.xrstor(&area.0), Ok(()));
        let read = guest.vcpu.xsave();
        // ST registers have 10 bytes of 16; a gap ends in reserved bytes.
        let kept = [0..5, 6..24, 24..32, 32..42, 144..154, 160..416, 512..520, 576..832];
        for range in kept {
            assert_eq!(read[range.clone()], area.0[range.clone()], "{range:?}");
        }
        assert_eq!(guest.vcpu.xrstor(&read), Ok(()));
        assert_eq!(guest.vcpu.xsave(), read);
    }
}

#[test]
fn protection_key_rights_are_part_of_it() {
    let mut guest = super::rings::supervisor(cr4::OSXSAVE | cr4::PKE, |a| {
        // rdpkru; hlt
        a.db(&[0x0F, 0x01, 0xEE, 0xF4]).unwrap();
    });
    let mut area = vec![0; guest.vcpu.xsave().len()];
    let at = area.len() - 8;
    area[512..520].copy_from_slice(&0x200_u64.to_le_bytes());
    area[at..at + 4].copy_from_slice(&0x5555_0000_u32.to_le_bytes());
    assert_eq!(guest.vcpu.xrstor(&area), Ok(()));
    guest.set_gpr(Gpr::Rcx, 0);
    guest.run_to_hlt();
    assert_eq!(guest.gpr(Gpr::Rax), 0x5555_0000);
    assert_eq!(guest.vcpu.xsave()[at..], area[at..]);
}

#[test]
fn components_without_a_bit_get_their_initial_values() {
    let mut guest = guest(&[0x90]);
    guest.vcpu.xrstor(&state(components(), 7).0).expect("an area");
    let before = guest.vcpu.xsave();
    let mut none = Area::filled(0xFF);
    none.set(512, [0; 64]);
    assert_eq!(guest.vcpu.xrstor(&none.0), Ok(()));
    let after = guest.vcpu.xsave();
    assert_eq!(after[512..520], [0; 8]);
    assert_eq!(after[..8], [0x7F, 0x03, 0, 0, 0, 0, 0, 0]);
    assert_eq!(after[24..28], 0x1F80_u32.to_le_bytes());
    assert!(after[32..512].iter().chain(&after[576..]).all(|&byte| byte == 0));
    assert_ne!(before, after);
}

#[test]
fn bad_areas_change_nothing() {
    let mut guest = guest(&[0x90]);
    let good = state(components(), 7);
    guest.vcpu.xrstor(&good.0).expect("an area");
    let before = guest.vcpu.xsave();
    let with = |at: usize, value: u64| {
        let mut area = state(components(), 1);
        area.set(at, value.to_le_bytes());
        area.0.to_vec()
    };
    for (area, error) in [
        (with(512, 1 << 3), XsaveError::Header),
        (with(512, 1 << 63), XsaveError::Header),
        (with(520, 1 << 63 | 7), XsaveError::Header),
        (with(520, 1), XsaveError::Header),
        (with(528, 1), XsaveError::Header),
        (with(24, 0xFFFF_0001_1F80), XsaveError::Mxcsr),
        (good.0[..512].to_vec(), XsaveError::Length),
        (good.0[..575].to_vec(), XsaveError::Length),
        (good.0[..832 - 1].to_vec(), XsaveError::Length),
    ] {
        assert_eq!(guest.vcpu.xrstor(&area), Err(error));
        assert_eq!(guest.vcpu.xsave(), before);
    }
}

#[test]
fn init_keeps_it() {
    let mut guest = guest(&[0x90]);
    guest.vcpu.xrstor(&state(components(), 7).0).expect("an area");
    let before = guest.vcpu.xsave();
    guest.vcpu.init_reset();
    assert_eq!(guest.vcpu.xsave(), before);
    assert_eq!(guest.vcpu.reg(Reg::Xcr0), components());
}

#[test]
fn last_instruction_pointers_are_canonical() {
    for (loaded, kept) in [
        (0xC420_0000_0000_0001_u64, 0x0020_0000_0000_0001_u64),
        (0xAD2D_D576_A5CE_1156, 0xFF2D_D576_A5CE_1156),
    ] {
        // FXRSTOR64 [rdi].
        let mut guest = guest(&[0x48, 0x0F, 0xAE, 0x0F]);
        let mut area = state(0, 1);
        area.set(8, loaded.to_le_bytes());
        guest.load(AT, &area.0);
        guest.run_to_hlt();
        assert_eq!(guest.vcpu.xsave()[8..16], kept.to_le_bytes());
    }
}
