//! gla_to_gpa and probe: the guest's own page tables asked. The first leaves their accessed and dirty
//! bits as they are.

use cpu_engine::{Probe, ProbeFailure, Probed, Translation};

use crate::abi::id::MV_PAGE_SIZE;
use crate::abi::map;
use crate::abi::probe as abi;
use crate::call::Call;
use crate::outcome::{Failure, OpResult};

/// R12 is a guest-linear address, page aligned. R10 becomes the guest-physical page in 63:12 and what
/// the page tables allow in 11:0 (MV_MAP_FLAG_*). MicroV refuses linear address 0; a guest may well
/// have a page there, so it is an address like any other here.
pub fn gla_to_gpa(call: &Call) -> OpResult {
    super::value(call, |state| {
        let gla = call.regs.r12;
        if !gla.is_multiple_of(MV_PAGE_SIZE) {
            return Err(Failure::Reg2);
        }
        let translation = state.vcpu.translate(gla).ok_or(Failure::Unknown)?;
        Ok(translation.gpa & !(MV_PAGE_SIZE - 1) | flags(&translation))
    })
}

fn flags(translation: &Translation) -> u64 {
    let rights = [
        (translation.writable, map::MV_MAP_FLAG_WRITE_ACCESS),
        (translation.executable, map::MV_MAP_FLAG_EXECUTE_ACCESS),
        (translation.user, map::MV_MAP_FLAG_USER),
    ];
    let size = match translation.page_size {
        0x20_0000 => map::MV_MAP_FLAG_2M_PAGE,
        0x4000_0000 => map::MV_MAP_FLAG_1G_PAGE,
        _ => map::MV_MAP_FLAG_4K_PAGE,
    };
    let given = rights.iter().filter(|(given, _)| *given).map(|(_, flag)| flag);
    given.fold(map::MV_MAP_FLAG_READ_ACCESS | size, |flags, flag| flags | flag)
}

const PROBE_FLAGS: u64 = abi::MV_PROBE_WRITE
    | abi::MV_PROBE_USER
    | abi::MV_PROBE_EXECUTE
    | abi::MV_PROBE_SET_ACCESSED
    | abi::MV_PROBE_SET_DIRTY
    | abi::MV_PROBE_FORCE_ACCESSED;

/// R12 is a guest-linear address, R13 MV_PROBE_*. Puts mv_probe_t on the page.
pub fn probe(call: &Call) -> OpResult {
    let page = call.pp.page()?;
    let (gla, flags) = (call.regs.r12, call.regs.r13);
    let has = |flag: u64| flags & flag != 0;
    if flags & !PROBE_FLAGS != 0 {
        return Err(Failure::Reg3);
    }
    let access = Probe {
        write: has(abi::MV_PROBE_WRITE),
        user: has(abi::MV_PROBE_USER),
        execute: has(abi::MV_PROBE_EXECUTE),
        set_accessed: has(abi::MV_PROBE_SET_ACCESSED),
        set_dirty: has(abi::MV_PROBE_SET_DIRTY),
        force_accessed: has(abi::MV_PROBE_FORCE_ACCESSED),
    };
    super::done(call, |state| {
        let found = state.vcpu.probe(gla, access);
        state.written.append(&mut cpu_mem::take_noted());
        page.write(0, &answer(found));
        Ok(())
    })
}

fn answer(found: Option<Probed>) -> abi::mv_probe_t {
    let Some(Probed { gpa, failure, marked }) = found else {
        return abi::mv_probe_t { gpa: 0, failure: abi::MV_PROBE_NO_ADDRESS, marked: 0 };
    };
    let failure = match failure {
        None => abi::MV_PROBE_FOUND,
        Some(ProbeFailure::NotPresent) => abi::MV_PROBE_NOT_PRESENT,
        Some(ProbeFailure::Denied) => abi::MV_PROBE_DENIED,
        Some(ProbeFailure::Reserved) => abi::MV_PROBE_RESERVED_BIT,
        Some(ProbeFailure::NoMemory) => abi::MV_PROBE_NO_MEMORY,
    };
    abi::mv_probe_t { gpa, failure, marked: marked.into() }
}
