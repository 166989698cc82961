//! The guest-physical memory of a VM: one address space, and one more for system management mode.
//!
//! An address of the second has MV_GPA_SMM set. So lists and tables of addresses hold both, and
//! nothing but this and the checks of addresses knows that there are two.

use std::sync::Arc;

use cpu_mem::PhysMap;

use crate::abi::map::MV_GPA_SMM;

/// The page maps, shared with the vCPUs.
#[derive(Debug, Default)]
pub struct Memory {
    /// Outside of system management mode.
    pub normal: Arc<PhysMap>,
    /// In system management mode.
    pub smm: Arc<PhysMap>,
}

impl Memory {
    /// The map that an address is in, and the address there.
    pub fn at(&self, address: u64) -> (&PhysMap, u64) {
        let map = if address & MV_GPA_SMM == 0 { &self.normal } else { &self.smm };
        (map, address & !MV_GPA_SMM)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_bit_of_an_address_says_which_map_it_is_in() {
        let memory = Memory::default();
        let (map, gpa) = memory.at(0x7000 | MV_GPA_SMM);
        assert!(std::ptr::eq(map, &*memory.smm) && gpa == 0x7000);
        let (map, gpa) = memory.at(0x7000);
        assert!(std::ptr::eq(map, &*memory.normal) && gpa == 0x7000);
    }
}
