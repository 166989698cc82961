//! KVM's ioctl numbers (`Documentation/virt/kvm/api.rst`, `linux/kvm.h`), by the kind of fd.
//!
//! A number is direction, size, type and index, as `asm-generic/ioctl.h` packs them; sizes come
//! from the structures themselves. `tools/gen` prints the table as `kvmshim/abi/ioctls_gen.py`.
#![allow(missing_docs, reason = "the names are the kernel's")]

use kvm_bindings as kvm;

const KVMIO: u32 = 0xAE;
/// The type of the ioctls that only kvmshim has ("k").
const KVMSHIMIO: u32 = 0x6B;

const NONE: u32 = 0;
const WRITE: u32 = 1;
const READ: u32 = 2;

const fn number(direction: u32, kind: u32, index: u32, size: usize) -> u32 {
    direction << 30 | (size as u32) << 16 | kind << 8 | index
}

macro_rules! ioctls {
    ($($fd:literal { $($name:ident = $kind:ident $index:literal, $direction:expr $(, $type:ty)?;)* })*) => {
        $($(pub const $name: u32 = number($direction, $kind, $index, 0 $(+ size_of::<$type>())?);)*)*

        /// Kind of fd, name, number.
        pub const TABLE: &[(&str, &str, u32)] =
            &[$($(($fd, stringify!($name), $name),)*)*];
    };
}

ioctls! {
    "system" {
        KVM_GET_API_VERSION = KVMIO 0x00, NONE;
        KVM_CREATE_VM = KVMIO 0x01, NONE;
        KVM_GET_MSR_INDEX_LIST = KVMIO 0x02, READ | WRITE, kvm::kvm_msr_list;
        KVM_GET_VCPU_MMAP_SIZE = KVMIO 0x04, NONE;
        KVM_GET_SUPPORTED_CPUID = KVMIO 0x05, READ | WRITE, kvm::kvm_cpuid2;
    }
    "system, vm" {
        KVM_CHECK_EXTENSION = KVMIO 0x03, NONE;
    }
    "vm" {
        KVM_CREATE_VCPU = KVMIO 0x41, NONE;
        KVM_SET_USER_MEMORY_REGION = KVMIO 0x46, WRITE, kvm::kvm_userspace_memory_region;
    }
    "vcpu" {
        KVM_RUN = KVMIO 0x80, NONE;
        KVM_GET_REGS = KVMIO 0x81, READ, kvm::kvm_regs;
        KVM_SET_REGS = KVMIO 0x82, WRITE, kvm::kvm_regs;
        KVM_GET_SREGS = KVMIO 0x83, READ, kvm::kvm_sregs;
        KVM_SET_SREGS = KVMIO 0x84, WRITE, kvm::kvm_sregs;
        KVM_GET_MSRS = KVMIO 0x88, READ | WRITE, kvm::kvm_msrs;
        KVM_SET_MSRS = KVMIO 0x89, WRITE, kvm::kvm_msrs;
        KVM_GET_FPU = KVMIO 0x8c, READ, kvm::kvm_fpu;
        KVM_SET_FPU = KVMIO 0x8d, WRITE, kvm::kvm_fpu;
        KVM_SET_CPUID2 = KVMIO 0x90, WRITE, kvm::kvm_cpuid2;
        KVM_GET_CPUID2 = KVMIO 0x91, READ | WRITE, kvm::kvm_cpuid2;
        KVM_GET_MP_STATE = KVMIO 0x98, READ, kvm::kvm_mp_state;
        KVM_SET_MP_STATE = KVMIO 0x99, WRITE, kvm::kvm_mp_state;
    }
    "vcpu, only in kvmshim: answered at once, the floor that KVM_RUN is measured against" {
        KVMSHIM_ECHO = KVMSHIMIO 0x00, NONE;
    }
}
