//! KVM's constants that Python names: capabilities, exit reasons, flags (`linux/kvm.h`).

use kvm_bindings as kvm;

use crate::python;

macro_rules! constants {
    ($($group:literal { $($name:ident)* })*) => {
        const TABLE: &[(&str, &[(&str, u64)])] = &[$(
            ($group, &[$((stringify!($name), kvm::$name as u64),)*]),
        )*];
    };
}

constants! {
    "version" { KVM_API_VERSION }
    "capabilities" {
        KVM_CAP_IRQCHIP KVM_CAP_HLT KVM_CAP_USER_MEMORY KVM_CAP_SET_TSS_ADDR KVM_CAP_EXT_CPUID
        KVM_CAP_NR_VCPUS KVM_CAP_NR_MEMSLOTS KVM_CAP_NOP_IO_DELAY KVM_CAP_MP_STATE
        KVM_CAP_DESTROY_MEMORY_REGION_WORKS KVM_CAP_JOIN_MEMORY_REGIONS_WORKS
        KVM_CAP_INTERNAL_ERROR_DATA KVM_CAP_MAX_VCPUS KVM_CAP_READONLY_MEM
        KVM_CAP_CHECK_EXTENSION_VM KVM_CAP_MAX_VCPU_ID KVM_CAP_IMMEDIATE_EXIT
    }
    "exit reasons" {
        KVM_EXIT_UNKNOWN KVM_EXIT_IO KVM_EXIT_HLT KVM_EXIT_MMIO KVM_EXIT_IRQ_WINDOW_OPEN
        KVM_EXIT_SHUTDOWN KVM_EXIT_FAIL_ENTRY KVM_EXIT_INTR KVM_EXIT_INTERNAL_ERROR
    }
    "details of exits" {
        KVM_EXIT_IO_IN KVM_EXIT_IO_OUT
        KVM_INTERNAL_ERROR_EMULATION KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON
        KVM_INTERNAL_ERROR_EMULATION_FLAG_INSTRUCTION_BYTES
    }
    "memory slots" { KVM_MEM_LOG_DIRTY_PAGES KVM_MEM_READONLY }
    "mp states" {
        KVM_MP_STATE_RUNNABLE KVM_MP_STATE_UNINITIALIZED KVM_MP_STATE_INIT_RECEIVED
        KVM_MP_STATE_HALTED KVM_MP_STATE_SIPI_RECEIVED
    }
    "cpuid" { KVM_CPUID_FLAG_SIGNIFCANT_INDEX }
}

/// The text of `kvmshim/abi/constants_gen.py`.
pub fn python() -> String {
    let mut text = python::head(
        "Constants of `linux/kvm.h`.",
        "`kvm-bindings` by `tools/gen/src/constants.rs`",
    );
    text.push_str("from typing import Final\n");
    for (group, rows) in TABLE {
        text.push_str(&format!("\n# {group}\n"));
        for (name, value) in *rows {
            text.push_str(&python::constant(name, *value));
        }
    }
    text
}
