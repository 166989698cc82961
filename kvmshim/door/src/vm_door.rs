//! What the vCPUs of one VM share here: coalesced writes, and where slots and dirty rings are.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, PoisonError, RwLock};

use crate::coalesced::Coalesced;
use crate::dirty_ring::DirtyRings;
use crate::shared_pages::SharedPages;

/// One VM's.
pub struct VmDoor {
    /// KVM_REGISTER_COALESCED_MMIO.
    pub coalesced: Coalesced,
    /// KVM_CAP_DIRTY_LOG_RING.
    pub rings: DirtyRings,
}

static OF_VMS: LazyLock<RwLock<HashMap<u16, Arc<VmDoor>>>> = LazyLock::new(RwLock::default);

/// A VM begins; `page` is its ring of coalesced writes.
pub fn begin(vmid: u16, page: SharedPages) {
    let door = VmDoor { coalesced: Coalesced::new(page), rings: DirtyRings::default() };
    OF_VMS.write().unwrap_or_else(PoisonError::into_inner).insert(vmid, Arc::new(door));
}

/// A VM's, if it has begun.
pub fn of_vm(vmid: u16) -> Option<Arc<VmDoor>> {
    OF_VMS.read().unwrap_or_else(PoisonError::into_inner).get(&vmid).map(Arc::clone)
}

/// A VM ends.
pub fn forget(vmid: u16) {
    OF_VMS.write().unwrap_or_else(PoisonError::into_inner).remove(&vmid);
}
