//! A register that should name an object: the object, or a failure.
//!
//! Objects are guests only. INVALID, SELF, numbers out of range, root IDs, and IDs never created or
//! destroyed have no object.

use std::sync::Arc;

use crate::abi::id::{MV_MAX_VPS, MV_MAX_VSS, MV_SELF_ID};
use crate::call::Call;
use crate::object::vs::Refusal;
use crate::object::{Vm, Vp, Vs};
use crate::outcome::Failure;

/// The ID in bits 15:0.
pub fn id(register: u64) -> u16 {
    register as u16
}

/// The guest VM in R11.
pub fn vm(call: &Call) -> Result<Arc<Vm>, Failure> {
    call.machine.vms.get(id(call.regs.r11)).ok_or(Failure::Reg1)
}

/// The guest VP in R11.
pub fn vp(call: &Call) -> Result<Arc<Vp>, Failure> {
    call.machine.vps.get(id(call.regs.r11)).ok_or(Failure::Reg1)
}

/// The guest VS in R11.
pub fn vs(call: &Call) -> Result<Arc<Vs>, Failure> {
    call.machine.vss.get(id(call.regs.r11)).ok_or(Failure::Reg1)
}

/// What a question about owners may be asked of.
pub enum Asked<T> {
    /// The root VP or VS of this PP.
    Root(u16),
    /// A guest's.
    Guest(Arc<T>),
}

/// The VP in R11, SELF and root VPs included.
pub fn any_vp(call: &Call) -> Result<Asked<Vp>, Failure> {
    any(call, MV_MAX_VPS, call.machine.vps.get(id(call.regs.r11)))
}

/// The VS in R11, SELF and root VSs included.
pub fn any_vs(call: &Call) -> Result<Asked<Vs>, Failure> {
    any(call, MV_MAX_VSS, call.machine.vss.get(id(call.regs.r11)))
}

fn any<T>(call: &Call, max: u64, guest: Option<Arc<T>>) -> Result<Asked<T>, Failure> {
    let number = id(call.regs.r11);
    match guest {
        Some(guest) => Ok(Asked::Guest(guest)),
        None if u64::from(number) == MV_SELF_ID => Ok(Asked::Root(call.pp.id())),
        None if call.machine.pps.is_taken(number) => Ok(Asked::Root(number)),
        None if u64::from(number) >= max => Err(Failure::Reg1),
        None => Err(Failure::Unknown),
    }
}

/// Whether R11 names a root VP or root VS, of any PP that could exist.
pub fn is_root_pp_id(call: &Call) -> bool {
    u64::from(id(call.regs.r11)) < crate::abi::id::MV_MAX_PPS
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Failure {
        match refusal {
            Refusal::Running | Refusal::Destroyed => Failure::Reg1,
            Refusal::Poisoned => Failure::Unknown,
        }
    }
}
