//! Guest memory as one processor sees it: translation, device accesses, code tracking.

use std::sync::Arc;

use cpu_mem::PhysMap;
use cpu_mmu::{ControlRegisters, Paging, Pdptes, Tlb};

use crate::code_map::CodeMap;
use crate::mmio::Mmio;

/// Everything between a linear address and a byte.
pub struct Memory {
    /// Guest-physical memory of the VM as the present mode sees it.
    pub map: Arc<PhysMap>,
    /// The same outside and inside of system management mode.
    spaces: [Arc<PhysMap>; 2],
    /// Cached translations.
    pub tlb: Tlb,
    /// Paging registers, decoded.
    pub paging: Paging,
    /// What has been decoded.
    pub code: CodeMap,
    /// Device accesses of the present instruction.
    pub mmio: Mmio,
}

impl Memory {
    pub(crate) fn new(map: Arc<PhysMap>) -> Self {
        Memory {
            spaces: [Arc::clone(&map), Arc::clone(&map)],
            map,
            tlb: Tlb::new(),
            paging: Paging::new(&ControlRegisters::default(), 52, Pdptes::default()),
            code: CodeMap::default(),
            mmio: Mmio::default(),
        }
    }

    /// Gives system management mode memory of its own, where it has had that of the other modes.
    pub fn set_smm_map(&mut self, map: Arc<PhysMap>) {
        self.spaces[1] = map;
    }

    /// Sees the memory of system management mode, or of the other modes. The caller drops what is
    /// cached.
    pub(crate) fn select(&mut self, smm: bool) {
        self.map = Arc::clone(&self.spaces[usize::from(smm)]);
    }
}
