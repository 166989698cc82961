//! The page walk once more, as plainly as the manual's tables say it, and slow.

use std::collections::BTreeMap;

use cpu_mmu::{Access, AccessKind, ControlRegisters, Privilege};

/// Guest memory: page address to its contents; `read_only` pages take no accessed bits.
#[derive(Clone, Debug, PartialEq)]
pub struct Memory {
    pub pages: BTreeMap<u64, Vec<u8>>,
    pub read_only: u64,
}

#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    Page { gpa: u64, size: u64, global: bool, dirty: bool },
    Fault { error_code: u32 },
}

pub struct Machine {
    pub registers: ControlRegisters,
    pub max_phy_addr: u32,
    pub pdptes: [u64; 4],
    pub pdptes_in_memory: bool,
}

/// "Formats of Paging-Structure Entries"; what an entry is, and so which bits must be zero.
#[derive(Clone, Copy, PartialEq)]
enum Kind {
    Pml5e,
    Pml4e,
    PdpteTable,
    Pdpte1G,
    PdeTable,
    Pde2M,
    Pte,
    LegacyPdeTable,
    LegacyPde4M,
    LegacyPte,
}

fn bit(value: u64, number: u32) -> bool {
    value >> number & 1 == 1
}

/// Tells from an entry what it is.
type KindOf = fn(&Machine, u64) -> Kind;

/// Bits `high` to `low`.
fn field(value: u64, high: u32, low: u32) -> u64 {
    (low..=high).filter(|&number| bit(value, number)).map(|number| 1 << (number - low)).sum()
}

impl Memory {
    fn bytes(&self, gpa: u64, count: usize) -> Option<u64> {
        let page = self.pages.get(&(gpa & !0xfff))?;
        let offset = (gpa & 0xfff) as usize;
        let bytes = &page[offset..offset + count];
        Some(bytes.iter().rev().fold(0, |value, &byte| value << 8 | u64::from(byte)))
    }

    fn set_bit(&mut self, gpa: u64, number: u32) {
        if gpa & !0xfff != self.read_only {
            let page = self.pages.get_mut(&(gpa & !0xfff)).expect("read before");
            page[(gpa & 0xfff) as usize + (number / 8) as usize] |= 1 << (number % 8);
        }
    }
}

impl Machine {
    fn paging(&self) -> bool {
        bit(self.registers.cr0, 31)
    }

    fn wp(&self) -> bool {
        bit(self.registers.cr0, 16)
    }

    fn pae(&self) -> bool {
        bit(self.registers.cr4, 5)
    }

    fn nxe(&self) -> bool {
        self.pae() && bit(self.registers.efer, 11)
    }

    fn long(&self) -> bool {
        bit(self.registers.efer, 10)
    }

    fn smep(&self) -> bool {
        bit(self.registers.cr4, 20)
    }

    fn smap(&self) -> bool {
        bit(self.registers.cr4, 21)
    }

    /// "Protection Keys": whether the key of the page denies a data access.
    fn key_denies(&self, access: Access, entries: &[u64]) -> bool {
        let user_page = entries.iter().all(|&entry| bit(entry, 2));
        let in_use = self.long() && bit(self.registers.cr4, 22);
        if !in_use || !user_page || access.kind == AccessKind::Execute {
            return false;
        }
        let key = field(*entries.last().unwrap(), 62, 59) as u32;
        let access_disable = bit(self.registers.pkru.into(), 2 * key);
        let write_disable = bit(self.registers.pkru.into(), 2 * key + 1);
        let respects = access.privilege.is_user() || self.wp();
        access_disable || access.kind == AccessKind::Write && write_disable && respects
    }

    /// The entry kinds on the way, with the lowest linear-address bit that indexes them.
    fn levels(&self) -> Vec<(u32, KindOf)> {
        let pml5e: KindOf = |_, _| Kind::Pml5e;
        let pml4e: KindOf = |_, _| Kind::Pml4e;
        let pdpte: KindOf = |_, entry| if bit(entry, 7) { Kind::Pdpte1G } else { Kind::PdpteTable };
        let pde: KindOf = |_, entry| if bit(entry, 7) { Kind::Pde2M } else { Kind::PdeTable };
        let pte: KindOf = |_, _| Kind::Pte;
        let legacy_pde: KindOf = |machine, entry| {
            let large = bit(machine.registers.cr4, 4) && bit(entry, 7);
            if large { Kind::LegacyPde4M } else { Kind::LegacyPdeTable }
        };
        let legacy_pte: KindOf = |_, _| Kind::LegacyPte;
        match (self.pae(), self.long(), bit(self.registers.cr4, 12)) {
            (false, ..) => vec![(22, legacy_pde), (12, legacy_pte)],
            (true, false, _) => vec![(21, pde), (12, pte)],
            (true, true, false) => vec![(39, pml4e), (30, pdpte), (21, pde), (12, pte)],
            (true, true, true) => {
                vec![(48, pml5e), (39, pml4e), (30, pdpte), (21, pde), (12, pte)]
            }
        }
    }

    fn reserved_bits(&self, kind: Kind) -> Vec<u32> {
        let m = self.max_phy_addr;
        match kind {
            Kind::LegacyPdeTable | Kind::LegacyPte => return vec![],
            Kind::LegacyPde4M => return (m.min(40) - 19..=21).collect(),
            _ => {}
        }
        let mut bits: Vec<u32> = (m..=51).collect();
        if !self.long() {
            bits.extend(52..=62);
        }
        if !self.nxe() {
            bits.push(63);
        }
        match kind {
            Kind::Pml5e | Kind::Pml4e => bits.push(7),
            Kind::Pdpte1G => bits.extend(13..=29),
            Kind::Pde2M => bits.extend(13..=20),
            _ => {}
        }
        bits
    }

    fn error_code(&self, access: Access, present: bool, reserved: bool) -> u32 {
        let fetch = access.kind == AccessKind::Execute && (self.smep() || self.nxe());
        u32::from(present)
            + 2 * u32::from(access.kind == AccessKind::Write)
            + 4 * u32::from(access.privilege.is_user())
            + 8 * u32::from(reserved)
            + 16 * u32::from(fetch)
    }

    /// "Determination of Access Rights", sentence by sentence.
    fn allowed(&self, access: Access, entries: &[u64]) -> bool {
        let user_page = entries.iter().all(|&entry| bit(entry, 2));
        let writable = entries.iter().all(|&entry| bit(entry, 1));
        let no_execute = self.nxe() && entries.iter().any(|&entry| bit(entry, 63));
        match (access.privilege.is_user(), access.kind) {
            (true, AccessKind::Read) => user_page,
            (true, AccessKind::Write) => user_page && writable,
            (true, AccessKind::Execute) => user_page && !no_execute,
            (false, AccessKind::Execute) => !(no_execute || user_page && self.smep()),
            (false, kind) => {
                let strict = access.privilege == Privilege::Supervisor;
                let kept_out = user_page && self.smap() && strict;
                let protected = kind == AccessKind::Write && self.wp() && !writable;
                !kept_out && !protected
            }
        }
    }

    pub fn walk(&self, memory: &mut Memory, gla: u64, access: Access) -> Outcome {
        if !self.paging() {
            let gpa = field(gla, 31, 0);
            return Outcome::Page { gpa, size: 0x1000, global: false, dirty: true };
        }
        let entry_bytes = if self.pae() { 8 } else { 4 };
        let index_bits = if self.pae() { 9 } else { 10 };
        let mut table = match (self.pae(), self.long()) {
            (false, _) => field(self.registers.cr3, 31, 12) << 12,
            (true, true) => field(self.registers.cr3, 51, 12) << 12,
            (true, false) => {
                let index = field(gla, 31, 30);
                let place = (field(self.registers.cr3, 31, 5) << 5) + 8 * index;
                let pdpte = if self.pdptes_in_memory {
                    memory.bytes(place, 8).unwrap_or(0)
                } else {
                    self.pdptes[index as usize]
                };
                if !bit(pdpte, 0) {
                    return Outcome::Fault { error_code: self.error_code(access, false, false) };
                }
                let upper = self.max_phy_addr..=63;
                if [1, 2, 5, 6, 7, 8].into_iter().chain(upper).any(|number| bit(pdpte, number)) {
                    return Outcome::Fault { error_code: self.error_code(access, true, true) };
                }
                field(pdpte, 51, 12) << 12
            }
        };
        let mut entries = vec![];
        let mut places = vec![];
        for (low_bit, kind_of) in self.levels() {
            let place = table + entry_bytes * field(gla, low_bit + index_bits - 1, low_bit);
            let Some(entry) = memory.bytes(place, entry_bytes as usize) else {
                return Outcome::Fault { error_code: self.error_code(access, false, false) };
            };
            if !bit(entry, 0) {
                return Outcome::Fault { error_code: self.error_code(access, false, false) };
            }
            let kind = kind_of(self, entry);
            if self.reserved_bits(kind).iter().any(|&number| bit(entry, number)) {
                return Outcome::Fault { error_code: self.error_code(access, true, true) };
            }
            entries.push(entry);
            places.push(place);
            table = field(entry, 51, 12) << 12;
            let base = match kind {
                Kind::Pte => field(entry, 51, 12) << 12,
                Kind::Pde2M => field(entry, 51, 21) << 21,
                Kind::Pdpte1G => field(entry, 51, 30) << 30,
                Kind::LegacyPte => field(entry, 31, 12) << 12,
                Kind::LegacyPde4M => field(entry, 31, 22) << 22 | field(entry, 20, 13) << 32,
                _ => continue,
            };
            return self.finish(memory, gla, access, (&entries, &places), base, 1 << low_bit);
        }
        unreachable!("a PTE ends every walk")
    }

    fn finish(
        &self,
        memory: &mut Memory,
        gla: u64,
        access: Access,
        (entries, places): (&[u64], &[u64]),
        base: u64,
        size: u64,
    ) -> Outcome {
        let key_denies = self.key_denies(access, entries);
        if !self.allowed(access, entries) || key_denies {
            let key = 32 * u32::from(key_denies);
            return Outcome::Fault { error_code: self.error_code(access, true, false) + key };
        }
        for &place in places {
            memory.set_bit(place, 5);
        }
        let (&leaf, &leaf_place) = (entries.last().unwrap(), places.last().unwrap());
        if access.kind == AccessKind::Write {
            memory.set_bit(leaf_place, 6);
        }
        let dirty = bit(memory.bytes(leaf_place, 1).unwrap(), 6);
        let global = bit(self.registers.cr4, 7) && bit(leaf, 8);
        Outcome::Page { gpa: base + gla % size, size, global, dirty }
    }
}
