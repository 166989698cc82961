//! Guest memory as one processor sees it: translation, device accesses, code tracking.

use std::sync::Arc;

use cpu_mem::{CodeWatch, HostPage, Marked, PhysMap};
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
    /// What this and other processors have decoded.
    pub shared_code: CodeWatch,
    /// Device accesses of the present instruction.
    pub mmio: Mmio,
}

impl Memory {
    pub(crate) fn new(map: Arc<PhysMap>) -> Self {
        Memory {
            spaces: [Arc::clone(&map), Arc::clone(&map)],
            shared_code: CodeWatch::new(Arc::clone(map.code_marks())),
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

    /// Has stores to granules of a page noticed, whoever makes them: they are cached code. What is cached
    /// is compared with memory afterwards.
    pub fn mark_code(&mut self, gpa: u64, page: HostPage, granules: u64) {
        self.shared_code.mark(page, granules);
        self.catch_up();
        self.code.mark(gpa, granules);
    }

    /// Whether stores to a page have to be noticed.
    pub(crate) fn holds_code(&self, gpa: u64, page: HostPage) -> bool {
        self.shared_code.holds_code(page) || self.code.has_page(gpa)
    }

    /// Has stores to the code of other processors noticed.
    #[inline]
    pub fn catch_up(&mut self) {
        if let Some(marked) = self.shared_code.catch_up() {
            self.trap_writes(marked);
        }
    }

    #[cold]
    fn trap_writes(&mut self, marked: Marked) {
        match marked {
            Marked::All => self.tlb.trap_all_writes(),
            Marked::Pages(pages) => pages.iter().for_each(|&page| self.tlb.trap_writes(page)),
        }
        self.shared_code.caught_up();
    }

    /// Sees the memory of system management mode, or of the other modes. The caller drops what is
    /// cached.
    pub(crate) fn select(&mut self, smm: bool) {
        self.map = Arc::clone(&self.spaces[usize::from(smm)]);
    }
}
