//! The slow path of a guest access: walk, find the memory, remember.

use cpu_mem::{HostPage, PageFlags, PhysMap};

use crate::walk::walk_by;
use crate::{Access, AccessKind, PageFault, Paging, Tlb};

/// Where a translated access goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// To memory that allows it.
    Memory {
        /// Guest-physical address, offset included.
        gpa: u64,
        /// The page of `gpa`.
        page: HostPage,
    },
    /// To no memory slot, or to one that does not allow it (a write to read-only memory): a
    /// device access.
    NotBacked {
        /// Guest-physical address, offset included.
        gpa: u64,
    },
}

/// Translates one access that stays inside a page, and puts it into the TLB if it goes to memory.
///
/// `gla` is canonical, and below 4 GiB in modes of 32-bit linear addresses.
///
/// # Errors
/// Those of [`walk`].
pub fn resolve(
    tlb: &mut Tlb,
    paging: &Paging,
    mem: &PhysMap,
    gla: u64,
    access: Access,
) -> Result<Target, PageFault> {
    let translation = walk_by(&mut tlb.tables, paging, mem, gla, access)?;
    let gpa = translation.gpa;
    let needed = match access.kind {
        AccessKind::Read => PageFlags::READ,
        AccessKind::Write => PageFlags::WRITE,
        AccessKind::Execute => PageFlags::EXECUTE,
    };
    let (page, writes) = match access.kind {
        AccessKind::Write => (mem.page_to_write(gpa), true),
        AccessKind::Read => (mem.page(gpa), mem.notes_no_write(gpa)),
        AccessKind::Execute => (mem.page(gpa), false),
    };
    match page.filter(|page| page.flags().contains(needed)) {
        Some(page) => {
            tlb.insert(access, gla, &translation, page, writes);
            Ok(Target::Memory { gpa, page })
        }
        None => Ok(Target::NotBacked { gpa }),
    }
}
