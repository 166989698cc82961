//! Hypercalls of the paravirtual interface.
//!
//! Linux, `Documentation/virt/kvm/x86/hypercalls.rst`; the order of checks is that of
//! `kvm_emulate_hypercall`. Numbers that are not here are the root's.

use std::sync::atomic::Ordering;

use cpu_chipset::lapic::{DeliveryMode, Destination, Message};
use cpu_engine::{HypercallExit, Vcpu};
use cpu_paravirt::clock::ClockPairing;
use cpu_paravirt::hypercall as hc;

use super::Paravirt;
use super::memory;
use crate::abi::run::MV_HYPERCALL_LEAVE_MAP_GPA_RANGE;
use crate::clock::Moment;
use crate::irqchip::delivery::Delivered;

/// In the interrupt command of KVM_HC_SEND_IPI: logical destinations and shorthands.
const ICR_DESTINATION: u64 = 0x800 | 0xC_0000;
const ICR_ASSERT: u64 = 1 << 14;
const ICR_LEVEL: u64 = 1 << 15;

const PAGE_SHIFT: u32 = 12;

impl Paravirt {
    /// RAX afterwards; None: the root answers.
    pub(super) fn call(&self, vcpu: &Vcpu, call: &HypercallExit) -> Option<u64> {
        let [number, a0, a1, a2, a3] = call.args;
        if call.cpl != 0 {
            return Some(hc::EPERM);
        }
        let wanted = hc::feature(number);
        if self.allowed(vcpu) & wanted != wanted {
            return Some(hc::ENOSYS);
        }
        match number {
            hc::VAPIC_POLL_IRQ => Some(0),
            hc::KICK_CPU => {
                self.kick(a1);
                std::thread::yield_now();
                Some(0)
            }
            hc::CLOCK_PAIRING => Some(self.pair_clocks(vcpu, a0, a1)),
            hc::SEND_IPI => {
                let width = if call.long { 64 } else { 32 };
                let targets = u128::from(a0) | u128::from(a1) << width;
                Some(self.send_ipi(targets, a2, a3))
            }
            hc::SCHED_YIELD => {
                std::thread::yield_now();
                Some(0)
            }
            hc::MAP_GPA_RANGE => self.map_gpa_range(a0, a1),
            _ => None,
        }
    }

    /// Ends the HLT of the processor with this APIC ID, or its next one.
    fn kick(&self, apic_id: u64) {
        let vcpus = self.vm.vcpus();
        let target = vcpus.iter().find(|vcpu| {
            let address = vcpu.lapic.address();
            address.enabled && u64::from(address.id) == apic_id
        });
        if let Some(vcpu) = target {
            vcpu.unhalt();
        }
    }

    fn pair_clocks(&self, vcpu: &Vcpu, gpa: u64, clock: u64) -> u64 {
        if clock != hc::CLOCK_PAIRING_WALLCLOCK {
            return hc::EOPNOTSUPP;
        }
        let Moment { realtime_ns, tsc } = Moment::now();
        let pairing = ClockPairing { realtime_ns, tsc: vcpu.tsc_at(tsc) };
        let written = memory::copy_in(&self.vm.memory.normal, gpa, &pairing.bytes());
        if written { 0 } else { hc::EFAULT }
    }

    /// How many processors get the interrupt.
    fn send_ipi(&self, targets: u128, first: u64, command: u64) -> u64 {
        let Some(irqchip) = self.vm.irqchip.get() else { return hc::EOPNOTSUPP };
        if command & ICR_DESTINATION != 0 {
            return hc::EINVAL;
        }
        let mode = DeliveryMode::from_bits((command >> 8) as u32);
        let vcpus = self.vm.vcpus();
        let mut count = 0;
        for vcpu in vcpus.iter() {
            let address = vcpu.lapic.address();
            let bit = u64::from(address.id).checked_sub(u64::from(first as u32));
            let is_target = bit.is_some_and(|bit| bit < 128 && targets >> bit & 1 != 0);
            if !address.enabled || !is_target {
                continue;
            }
            let message = Message {
                destination: Destination::Itself,
                mode,
                vector: command as u8,
                level: command & ICR_LEVEL != 0,
                assert: command & ICR_ASSERT != 0,
            };
            let delivered = irqchip.send_to(vcpu, &message);
            count += u64::from(delivered != Delivered::ToNobody);
        }
        count
    }

    fn map_gpa_range(&self, gpa: u64, nr_pages: u64) -> Option<u64> {
        let leaves = self.vm.hypercalls_that_leave.load(Ordering::Relaxed);
        if leaves & MV_HYPERCALL_LEAVE_MAP_GPA_RANGE == 0 {
            return Some(hc::ENOSYS);
        }
        let first = gpa >> PAGE_SHIFT;
        let is_aligned = first << PAGE_SHIFT == gpa;
        if !is_aligned || first.wrapping_add(nr_pages) <= first {
            return Some(hc::EINVAL);
        }
        None
    }
}
