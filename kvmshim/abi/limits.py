"""Limits of x86 KVM that `linux/kvm.h` does not export (`arch/x86/include/asm/kvm_host.h`).

How many vCPUs and slots there can be are those of Linux before 5.13 and 5.16.
"""

from typing import Final

KVM_MAX_VCPUS: Final = 288
"""Of one VM. libfuse takes a pthread key for each vCPU's session, of which a process has 1024."""

KVM_MAX_VCPU_IDS: Final = 4 * KVM_MAX_VCPUS
"""Exclusive; what KVM_CAP_MAX_VCPU_ID reports."""

KVM_USER_MEM_SLOTS: Final = 509
"""512 slots less KVM's three internal ones. A slot costs the client mappings, which are few."""

KVM_ADDRESS_SPACES: Final = 2
"""The second is that of system management mode."""

KVM_MEM_MAX_NR_PAGES: Final = (1 << 31) - 1
KVM_MAX_MCE_BANKS: Final = 32
KVM_MAX_CPUID_ENTRIES: Final = 256
MAX_IO_MSRS: Final = 256
"""Exclusive bound of `nmsrs` in KVM_GET_MSRS and KVM_SET_MSRS."""

KVM_DIRTY_RING_MAX_ENTRIES: Final = 65536
KVM_DIRTY_RING_RSVD_ENTRIES: Final = 64 + 512
"""Kept free for what a vCPU writes before it can leave; 512 as with page-modification logging."""

PAGE_SIZE: Final = 4096
TASK_SIZE_MAX: Final = (1 << 47) - PAGE_SIZE
"""End of the user half of the address space with 4-level paging, as `access_ok` sees it."""

VCPU_MMAP_SIZE: Final = 3 * PAGE_SIZE
"""`kvm_run`, the page of port I/O data, the ring of coalesced MMIO."""

KVMSHIM_CAP_IDENTITY: Final = 0x6B76736D
"""A capability only kvmshim has ("kvsm"): its value is its number. KVM answers 0."""

KVM_MAX_IRQ_ROUTES: Final = 4096
"""Lines and entries of a routing table; what KVM_CAP_IRQ_ROUTING reports."""

KVM_EXIT_HYPERCALL_VALID_MASK: Final = 1 << 12
"""Of KVM_CAP_EXIT_HYPERCALL: KVM_HC_MAP_GPA_RANGE; `arch/x86/kvm/x86.c`."""
