//! Who gets an interrupt message (SDM volume 3, "Interrupt Destination", "Lowest Priority Delivery
//! Mode"). No lock: senders read what each local APIC has published.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};

use crate::object::presence::Presence;

/// Takes turns among the candidates for lowest-priority messages.
#[derive(Debug, Default)]
pub struct Arbiter(AtomicUsize);

/// What became of a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivered {
    /// Nobody is addressed by it.
    ToNobody,
    /// Everybody who is addressed had it pending already.
    Coalesced,
    /// So many processors have got it.
    To(usize),
}

impl Arbiter {
    /// Leaves a message with those it is for. `sender` is who sends it by its own local APIC.
    pub fn deliver(
        &self,
        vcpus: &[Arc<Presence>],
        sender: Option<&Presence>,
        message: &Message,
    ) -> Delivered {
        let is_sender = |vcpu: &Presence| sender.is_some_and(|s| std::ptr::eq(s, vcpu));
        let is_meant = |vcpu: &&Arc<Presence>| match message.destination {
            Destination::Itself => is_sender(vcpu),
            Destination::All => vcpu.lapic.address().enabled,
            Destination::Others => vcpu.lapic.address().enabled && !is_sender(vcpu),
            destination => vcpu.lapic.address().matches(destination),
        };
        if message.mode == DeliveryMode::LowestPriority {
            let candidates = vcpus.iter().filter(is_meant).count();
            let turn = self.0.fetch_add(1, Ordering::Relaxed);
            let chosen = turn.checked_rem(candidates).unwrap_or(0);
            return post(vcpus.iter().filter(is_meant).skip(chosen).take(1), message);
        }
        post(vcpus.iter().filter(is_meant), message)
    }
}

fn post<'a>(vcpus: impl Iterator<Item = &'a Arc<Presence>>, message: &Message) -> Delivered {
    let (mut addressed, mut new) = (false, 0);
    for vcpu in vcpus {
        addressed = true;
        if vcpu.lapic.inbox.post(message) {
            vcpu.notify();
            new += 1;
        }
    }
    match (addressed, new) {
        (false, _) => Delivered::ToNobody,
        (true, 0) => Delivered::Coalesced,
        (true, new) => Delivered::To(new),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use cpu_chipset::lapic::{Address, x2apic_ldr};

    fn vcpus(count: u32) -> Vec<Arc<Presence>> {
        let vcpu = |id| {
            let vcpu = Presence::default();
            let ldr = x2apic_ldr(id);
            let address = Address { enabled: true, x2apic: true, id, ldr, cluster: false };
            vcpu.lapic.publish(&address, false);
            Arc::new(vcpu)
        };
        (0..count).map(vcpu).collect()
    }

    fn message(destination: Destination, mode: DeliveryMode) -> Message {
        Message { destination, mode, vector: 0x40, level: false, assert: true }
    }

    fn who(vcpus: &[Arc<Presence>]) -> Vec<usize> {
        (0..vcpus.len()).filter(|&number| vcpus[number].lapic.inbox.any()).collect()
    }

    #[test]
    fn shorthands_need_no_destination() {
        for (destination, expected) in [
            (Destination::Itself, vec![1]),
            (Destination::Others, vec![0, 2]),
            (Destination::All, vec![0, 1, 2]),
        ] {
            let vcpus = vcpus(3);
            let sent = message(destination, DeliveryMode::Fixed);
            let delivered = Arbiter::default().deliver(&vcpus, Some(&vcpus[1]), &sent);
            assert_eq!((delivered, who(&vcpus)), (Delivered::To(expected.len()), expected));
        }
    }

    #[test]
    fn a_message_to_an_absent_id_is_for_nobody() {
        let vcpus = vcpus(2);
        let destination = Destination::Physical { id: 7, byte: false };
        let sent = message(destination, DeliveryMode::Fixed);
        assert_eq!(Arbiter::default().deliver(&vcpus, None, &sent), Delivered::ToNobody);
    }

    #[test]
    fn the_same_message_twice_is_coalesced() {
        let vcpus = vcpus(1);
        let sent = message(Destination::All, DeliveryMode::Fixed);
        let arbiter = Arbiter::default();
        arbiter.deliver(&vcpus, None, &sent);
        assert_eq!(arbiter.deliver(&vcpus, None, &sent), Delivered::Coalesced);
    }

    #[test]
    fn lowest_priority_goes_to_one_and_takes_turns() {
        let vcpus = vcpus(4);
        let destination = Destination::Logical { mda: 0b1110 };
        let sent = message(destination, DeliveryMode::LowestPriority);
        let arbiter = Arbiter::default();
        for expected in 1..=3 {
            assert_eq!(arbiter.deliver(&vcpus, None, &sent), Delivered::To(1));
            assert_eq!(who(&vcpus).len(), expected);
        }
        assert_eq!(who(&vcpus), [1, 2, 3]);
    }
}
