"""What KVM_CHECK_EXTENSION answers, one row each. A capability without a row is 0.

A row is a promise: VMMs use at once what is announced, so a row lands with what it announces.
"""

import os
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits

CAPABILITIES: Final[dict[int, int]] = {
    kvm.KVM_CAP_HLT: 1,
    kvm.KVM_CAP_USER_MEMORY: 1,
    kvm.KVM_CAP_SET_TSS_ADDR: 1,
    kvm.KVM_CAP_EXT_CPUID: 1,
    # The recommended number of vCPUs: as many as run at once.
    kvm.KVM_CAP_NR_VCPUS: min(os.cpu_count() or 1, limits.KVM_MAX_VCPUS),
    kvm.KVM_CAP_NR_MEMSLOTS: limits.KVM_USER_MEM_SLOTS,
    kvm.KVM_CAP_NOP_IO_DELAY: 1,
    kvm.KVM_CAP_MP_STATE: 1,
    kvm.KVM_CAP_DESTROY_MEMORY_REGION_WORKS: 1,
    kvm.KVM_CAP_JOIN_MEMORY_REGIONS_WORKS: 1,
    kvm.KVM_CAP_SET_BOOT_CPU_ID: 1,
    kvm.KVM_CAP_SET_IDENTITY_MAP_ADDR: 1,
    kvm.KVM_CAP_INTERNAL_ERROR_DATA: 1,
    kvm.KVM_CAP_MAX_VCPUS: limits.KVM_MAX_VCPUS,
    kvm.KVM_CAP_READONLY_MEM: 1,
    kvm.KVM_CAP_CHECK_EXTENSION_VM: 1,
    kvm.KVM_CAP_MAX_VCPU_ID: limits.KVM_MAX_VCPU_IDS,
    kvm.KVM_CAP_IMMEDIATE_EXIT: 1,
    limits.KVMSHIM_CAP_IDENTITY: limits.KVMSHIM_CAP_IDENTITY,
}
