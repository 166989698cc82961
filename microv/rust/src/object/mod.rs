//! What IDs stand for: the machine with its PPs, VMs, VPs and VSs.
//!
//! Contracts here are narrow: operations have validated what came in registers and pages. A VS stands
//! on a VP, a VP on a VM; each is destroyed only when nothing stands on it.

mod last_exit;
pub mod local_apic;
mod members;
mod memory;
pub mod personality;
pub mod pool;
pub mod pp;
pub mod presence;
pub mod questions;
pub mod sleep_counts;
pub mod state;
pub mod vm;
pub mod vp;
pub mod vs;

pub use members::RetireError;
pub use pp::Pp;
pub use vm::Vm;
pub use vp::Vp;
pub use vs::Vs;

use std::sync::atomic::AtomicU64;

use cpu_engine::CodeLimit;

use crate::abi::id::{MV_MAX_PPS, MV_MAX_VMS, MV_MAX_VPS, MV_MAX_VSS, MV_ROOT_VMID};
use crate::handles::Handles;
use pool::{Ids, Pool};

/// Everything a hypercall can reach.
#[derive(Debug)]
pub struct Machine {
    /// Open handles.
    pub handles: Handles,
    /// Whose processor guests see.
    pub personality: personality::Chosen,
    /// MiB of translated code that a VM may have.
    pub code_cache_mib: AtomicU64,
    /// IDs of the threads that have made a hypercall and still live.
    pub pps: Ids,
    /// Guest VMs; the root VM is no object.
    pub vms: Pool<Vm>,
    /// Guest VPs; root VP n is no object.
    pub vps: Pool<Vp>,
    /// Guest VSs; root VS n is no object.
    pub vss: Pool<Vs>,
}

impl Default for Machine {
    fn default() -> Machine {
        Machine {
            handles: Handles::default(),
            personality: personality::Chosen::default(),
            code_cache_mib: AtomicU64::new(CodeLimit::DEFAULT_MIB.into()),
            pps: Ids::new(0..MV_MAX_PPS as u16),
            vms: Pool::new(MV_ROOT_VMID as u16 + 1..MV_MAX_VMS as u16),
            vps: Pool::new(MV_MAX_PPS as u16..MV_MAX_VPS as u16),
            vss: Pool::new(MV_MAX_PPS as u16..MV_MAX_VSS as u16),
        }
    }
}
