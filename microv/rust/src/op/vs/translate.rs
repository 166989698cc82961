//! gla_to_gpa: the guest's own page tables asked, without touching their accessed and dirty bits.

use cpu_engine::Translation;

use crate::abi::id::MV_PAGE_SIZE;
use crate::abi::map;
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
