//! HvCallSendSyntheticClusterIpi and its form with a set of processors: TLFS, "Virtual Interrupt
//! Controller". An interrupt with fixed delivery for each of the processors.

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_paravirt::hyperv::hypercall::Status;

use super::Hyperv;
use super::hypercall::Caller;
use super::vp_set::VpSet;

const VECTORS: std::ops::RangeInclusive<u32> = 0x10..=0xFF;
/// Format of a set of all processors.
const ALL: u64 = 1;
/// Where the words of a sparse set are: behind vector, format and mask.
const BANKS: u64 = 24;
/// Halves of XMM registers that the mask uses.
const USED_HALVES: usize = 1;

impl Hyperv {
    /// The form with a mask of processors.
    pub(super) fn send_ipi(&self, caller: &Caller) -> Status {
        let [vector, mask] = match caller.input.is_fast() {
            true if caller.in_words[0] >> 32 != 0 => return Status::InvalidHypercallInput,
            true => caller.in_words,
            false => match self.input_words(caller) {
                Some(words) => words,
                None => return Status::InvalidHypercallInput,
            },
        };
        self.send(vector as u32, &VpSet::of_mask(mask))
    }

    /// The form with a set of processors.
    pub(super) fn send_ipi_to_set(&self, caller: &Caller) -> Status {
        let [vector, format, mask] = match caller.input.is_fast() {
            true => [caller.in_words[0], caller.in_words[1], caller.xmm[0]],
            false => match self.input_words(caller) {
                Some(words) => words,
                None => return Status::InvalidHypercallInput,
            },
        };
        if self.vm.irqchip.get().is_none()
            || caller.input.header_words() != mask.count_ones() as usize
        {
            return Status::InvalidHypercallInput;
        }
        let set = match format {
            ALL => VpSet::All,
            _ if mask == 0 => return Status::Success,
            _ => {
                let mem = &self.vm.memory.normal;
                let set = VpSet::sparse(mem, caller, mask, BANKS, USED_HALVES);
                let Some(set) = set else { return Status::InvalidHypercallInput };
                set
            }
        };
        self.send(vector as u32, &set)
    }

    fn send(&self, vector: u32, set: &VpSet) -> Status {
        let Some(irqchip) = self.vm.irqchip.get() else { return Status::InvalidHypercallInput };
        if !VECTORS.contains(&vector) {
            return Status::InvalidHypercallInput;
        }
        let message = Message {
            destination: Destination::Itself,
            mode: DeliveryMode::Fixed,
            vector: vector as u8,
            level: false,
            assert: true,
        };
        for vcpu in set.of(&self.vm.vcpus()) {
            if vcpu.lapic.address().enabled {
                irqchip.send_to(vcpu, &message);
            }
        }
        Status::Success
    }
}
