//! Whom hypercalls name: partitions, processors, virtual trust levels. HvCallGetPartitionId and
//! HvCallGetVpIndexFromApicId, which tell names.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use cpu_engine::Vcpu;
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::block::List;
use super::hypercall::{Caller, Done};
use crate::object::presence::Presence;

/// Partitions have numbers from here on: 0 is none.
const PARTITION_IDS: u64 = 1;
/// The caller's partition.
const OWN_PARTITION: u64 = u64::MAX;
/// The caller.
const OWN_PROCESSOR: u32 = 0xFFFF_FFFE;

/// Bit 4 of HV_INPUT_VTL says that bits 3:0 count; the others are reserved.
const VTL_COUNTS: u8 = 1 << 4;
const VTL: u8 = 0xF;

/// Partition and virtual trust level, then identifiers of local APICs, for numbers of processors; each
/// is filled up to a word.
const APIC_IDS: List = List { head: 16, element: 8, answer: 8 };

impl Hyperv {
    /// HvCallGetPartitionId.
    pub(super) fn tell_partition_id(&self, vcpu: &mut Vcpu, caller: &Caller) -> Status {
        match self.output(caller, 0, size_of::<u64>()) {
            Ok(place) => {
                place.put(vcpu, 0, &self.partition_id().to_le_bytes());
                Status::Success
            }
            Err(status) => status,
        }
    }

    /// HvCallGetVpIndexFromApicId.
    pub(super) fn tell_vp_indexes(&mut self, vcpu: &mut Vcpu, caller: &Caller) -> Done {
        let begin = |own: &Hyperv, head: &[u8]| {
            own.check_partition(head)?;
            if head[8] == 0 { Ok(()) } else { Err(Status::InvalidVtlState) }
        };
        self.for_each(vcpu, caller, APIC_IDS, begin, |own, _, element| {
            let apic_id = u32_at(element, 0);
            let has_apics = own.vm.irqchip.get().is_some();
            let vcpus = own.vm.vcpus();
            let mut all = vcpus.iter().filter(|_| has_apics);
            let found = all.find(|other| other.lapic.address().id == apic_id);
            let number = found.ok_or(Status::InvalidParameter)?.vp_index.load(Ordering::Relaxed);
            Ok(u128::from(number).to_le_bytes())
        })
    }

    fn partition_id(&self) -> u64 {
        PARTITION_IDS + u64::from(self.vm.id())
    }

    /// The first word names the caller's partition, as it must: there is no other that it knows.
    pub(super) fn check_partition(&self, head: &[u8]) -> Result<(), Status> {
        match u64_at(head, 0) {
            OWN_PARTITION => Ok(()),
            id if id == self.partition_id() => Ok(()),
            _ => Err(Status::InvalidPartitionId),
        }
    }

    /// The processor that the second word names.
    pub(super) fn processor_of(&self, head: &[u8]) -> Result<Arc<Presence>, Status> {
        let number = u32_at(head, 8);
        if number == OWN_PROCESSOR {
            return Ok(Arc::clone(&self.presence));
        }
        let vcpus = self.vm.vcpus();
        let named = vcpus.iter().find(|other| other.vp_index.load(Ordering::Relaxed) == number);
        named.cloned().ok_or(Status::InvalidVpIndex)
    }

    /// Byte 12 is a HV_INPUT_VTL that names the level of the caller, the only one; 3 bytes of padding
    /// follow.
    pub(super) fn check_input_level(head: &[u8]) -> Result<(), Status> {
        let level = head[12];
        if level & !(VTL | VTL_COUNTS) != 0 || head[13..16] != [0; 3] {
            return Err(Status::InvalidParameter);
        }
        let other = level & VTL_COUNTS != 0 && level & VTL != 0;
        if other { Err(Status::InvalidVtlState) } else { Ok(()) }
    }
}

/// 32 bits of a block.
pub fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

/// 64 bits of a block.
pub fn u64_at(bytes: &[u8], at: usize) -> u64 {
    u64::from(u32_at(bytes, at + 4)) << 32 | u64::from(u32_at(bytes, at))
}
