//! Guest memory as one processor sees it: translation, device accesses, code tracking.

use std::sync::Arc;

use cpu_mem::PhysMap;
use cpu_mmu::{ControlRegisters, Paging, Pdptes, Tlb};

use crate::code_map::CodeMap;
use crate::mmio::Mmio;

/// Everything between a linear address and a byte.
pub struct Memory {
    /// Guest-physical memory of the VM.
    pub map: Arc<PhysMap>,
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
            map,
            tlb: Tlb::new(),
            paging: Paging::new(&ControlRegisters::default(), 52, Pdptes::default()),
            code: CodeMap::default(),
            mmio: Mmio::default(),
        }
    }
}
