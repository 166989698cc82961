//! What the instructions write, and what state they leave.

use super::native::{Area, Restore, Save, restore, save};
use super::{AT, components, guest, run, set_mask, state, state_with_error};

const SAVES: [(Save, &[u8]); 6] = [
    (Save::Xsave, &[0x0F, 0xAE, 0x27]),
    (Save::Xsave64, &[0x48, 0x0F, 0xAE, 0x27]),
    (Save::Xsaveopt64, &[0x48, 0x0F, 0xAE, 0x37]),
    (Save::Xsavec64, &[0x48, 0x0F, 0xC7, 0x27]),
    (Save::Fxsave, &[0x0F, 0xAE, 0x07]),
    (Save::Fxsave64, &[0x48, 0x0F, 0xAE, 0x07]),
];

const RESTORES: [(Restore, &[u8]); 4] = [
    (Restore::Xrstor, &[0x0F, 0xAE, 0x2F]),
    (Restore::Xrstor64, &[0x48, 0x0F, 0xAE, 0x2F]),
    (Restore::Fxrstor, &[0x0F, 0xAE, 0x0F]),
    (Restore::Fxrstor64, &[0x48, 0x0F, 0xAE, 0x0F]),
];

const MASKS: [u64; 12] = [0, 1, 2, 3, 4, 6, 7, 0x20, 0x40, 0xC0, 0xE7, u64::MAX];

/// MXCSR_MASK is that of the processor, which may differ.
fn without_mxcsr_mask(mut area: Area) -> Area {
    area.set(28, [0; 4]);
    area
}

/// Times that the host is asked. A context switch between its instructions makes it track initial
/// components as in use, which is legal but not what the guest does.
const TRIES: u32 = 100;

fn assert_same(guest: Area, host: impl Fn() -> Area, what: &str) {
    let guest = without_mxcsr_mask(guest);
    let host_again = || without_mxcsr_mask(host());
    let mut host = host_again();
    for _ in 1..TRIES {
        if guest == host {
            return;
        }
        host = host_again();
    }
    let differ = (0..4096).find(|&at| guest.0[at] != host.0[at]);
    let show = differ.map(|at| {
        let end = (at + 8).min(4096);
        (at, guest.0[at..end].to_vec(), host.0[at..end].to_vec())
    });
    assert_eq!(show, None, "{what}: offset, guest, host");
}

#[test]
fn areas_are_those_of_the_host() {
    for (kind, code) in SAVES {
        let mut guest = guest(code);
        for xstate_bv in [0, 1, 2, 5, 0xE0, 0xE7].map(|bv| bv & components()) {
            for area in [state(xstate_bv, 3), state_with_error(xstate_bv, 4)] {
                for mask in MASKS {
                    let mut to = Area::filled(0xCC);
                    to.set(512, [0; 64]);
                    to.set(512, 0xAA00_u64.to_le_bytes());
                    guest.vcpu.xrstor(&area.0).expect("an area");
                    guest.load(AT, &to.0);
                    set_mask(&mut guest, mask);
                    // XRSTOR takes MXCSR even where no component is named.
                    guest.vcpu.fxrstor(&with_mxcsr(guest.vcpu.fxsave(), 0x1FA0));
                    run(&mut guest);
                    let host = || {
                        let mut to = to.clone();
                        save(kind, &area, mask, &mut to);
                        to
                    };
                    let what = format!("{kind:?} of {xstate_bv:#x}, mask {mask:#x}");
                    assert_same(Area(guest.read(AT)), host, &what);
                }
            }
        }
    }
}

fn with_mxcsr(mut image: [u8; 512], mxcsr: u32) -> [u8; 512] {
    image[24..28].copy_from_slice(&mxcsr.to_le_bytes());
    image
}

#[test]
fn restored_state_is_that_of_the_host() {
    let compacted = |mut area: Area| {
        area.set(520, ((1 << 63) | components()).to_le_bytes());
        area
    };
    for (kind, code) in RESTORES {
        let mut guest = guest(code);
        for xstate_bv in [0, 1, 2, 4, 0xC0, 0xE7].map(|bv| bv & components()) {
            let areas = [state(xstate_bv, 9), compacted(state_with_error(xstate_bv, 8))];
            for (from, mask) in areas.iter().flat_map(|area| MASKS.map(|mask| (area, mask))) {
                let before = state(components(), 5);
                guest.vcpu.xrstor(&before.0).expect("an area");
                guest.load(AT, &from.0);
                set_mask(&mut guest, mask);
                run(&mut guest);
                let after = || restore(kind, &before, mask, from);
                let what = format!("{kind:?} of {xstate_bv:#x}, mask {mask:#x}");
                assert_same(seen_by_xsave(&guest.vcpu.xsave()), after, &what);
            }
        }
    }
}

/// An area of the engine as this host's XSAVE64 would write it: pointers only with FSW.ES on
/// processors that hide them, MXCSR no reason for XSTATE_BV.
fn seen_by_xsave(bytes: &[u8]) -> Area {
    let mut area = Area::filled(0);
    let len = bytes.len().min(super::components_len());
    area.0[..len].copy_from_slice(&bytes[..len]);
    if super::hides_pointers() && area.0[2] & 0x80 == 0 {
        area.set(6, [0; 18]);
    }
    let xmm_in_use = area.0[160..416].iter().any(|&byte| byte != 0);
    let xstate_bv = area.u64(512) & !2 | u64::from(xmm_in_use) << 1;
    area.set(512, xstate_bv.to_le_bytes());
    area
}

#[test]
fn registers_beyond_the_seventh_are_left_alone_outside_64_bit_mode() {
    let before = state(components(), 5);
    let from = state(components(), 6);
    for code in [[0x0F, 0xAE, 0x2F], [0x0F, 0xAE, 0x0F]] {
        let mut guest = super::protected_guest(&code);
        guest.vcpu.xrstor(&before.0).expect("an area");
        guest.load(AT, &from.0);
        set_mask(&mut guest, u64::MAX);
        guest.run_to_hlt();
        let after = guest.vcpu.xsave();
        assert_eq!(after[160..288], from.0[160..288]);
        assert_eq!(after[288..416], before.0[288..416]);
    }
    for code in [[0x0F, 0xAE, 0x27], [0x0F, 0xAE, 0x07]] {
        let mut guest = super::protected_guest(&code);
        guest.vcpu.xrstor(&before.0).expect("an area");
        guest.load(AT, &Area::filled(0xCC).0);
        set_mask(&mut guest, u64::MAX);
        guest.run_to_hlt();
        let area: [u8; 4096] = guest.read(AT);
        assert_eq!(area[160..288], before.0[160..288]);
        assert!(area[288..512].iter().all(|&byte| byte == 0xCC));
    }
}
