//! The ioctls of `linux/kvm.h` that x86 has, or had, and that kvmshim does not answer.
//!
//! One that is answered moves to the table of [`super`]. Why each is here says
//! `kvmshim/abi/notes.py`.

use kvm_bindings as kvm;

use super::{KVMIO, READ, WRITE, number};

ioctls! {
    "vm" {
        KVM_SET_MEMORY_REGION = KVMIO 0x40, WRITE, [u64; 3];
        KVM_SET_MEMORY_ALIAS = KVMIO 0x43, WRITE, [u64; 4];
        KVM_ASSIGN_PCI_DEVICE = KVMIO 0x69, READ, [u64; 8];
        KVM_ASSIGN_DEV_IRQ = KVMIO 0x70, WRITE, [u64; 8];
        KVM_DEASSIGN_PCI_DEVICE = KVMIO 0x72, WRITE, [u64; 8];
        KVM_ASSIGN_SET_MSIX_NR = KVMIO 0x73, WRITE, u64;
        KVM_ASSIGN_SET_MSIX_ENTRY = KVMIO 0x74, WRITE, [u64; 2];
        KVM_DEASSIGN_DEV_IRQ = KVMIO 0x75, WRITE, [u64; 8];
        KVM_XEN_HVM_CONFIG = KVMIO 0x7a, WRITE, kvm::kvm_xen_hvm_config;
        KVM_ASSIGN_SET_INTX_MASK = KVMIO 0xa4, WRITE, [u64; 8];
        KVM_SET_PMU_EVENT_FILTER = KVMIO 0xb2, WRITE, kvm::kvm_pmu_event_filter;
        KVM_MEMORY_ENCRYPT_OP = KVMIO 0xba, READ | WRITE, u64;
        KVM_MEMORY_ENCRYPT_REG_REGION = KVMIO 0xbb, READ, kvm::kvm_enc_region;
        KVM_MEMORY_ENCRYPT_UNREG_REGION = KVMIO 0xbc, READ, kvm::kvm_enc_region;
        KVM_XEN_HVM_GET_ATTR = KVMIO 0xc8, READ | WRITE, kvm::kvm_xen_hvm_attr;
        KVM_XEN_HVM_SET_ATTR = KVMIO 0xc9, WRITE, kvm::kvm_xen_hvm_attr;
        KVM_XEN_HVM_EVTCHN_SEND = KVMIO 0xd0, WRITE, kvm::kvm_irq_routing_xen_evtchn;
    }
    "vcpu" {
        KVM_GET_ONE_REG = KVMIO 0xab, WRITE, kvm::kvm_one_reg;
        KVM_SET_ONE_REG = KVMIO 0xac, WRITE, kvm::kvm_one_reg;
        KVM_GET_REG_LIST = KVMIO 0xb0, READ | WRITE, kvm::kvm_reg_list;
        KVM_GET_NESTED_STATE = KVMIO 0xbe, READ | WRITE, kvm::kvm_nested_state;
        KVM_SET_NESTED_STATE = KVMIO 0xbf, WRITE, kvm::kvm_nested_state;
        KVM_XEN_VCPU_GET_ATTR = KVMIO 0xca, READ | WRITE, kvm::kvm_xen_vcpu_attr;
        KVM_XEN_VCPU_SET_ATTR = KVMIO 0xcb, WRITE, kvm::kvm_xen_vcpu_attr;
    }
}
