"""KVM's ioctl numbers, by the kind of file descriptor that takes them.

Generated from `kvmshim/door/src/ioctls.rs` by `make gen`; do not edit.
"""

from typing import Final

# system
KVM_GET_API_VERSION: Final = 0xAE00
KVM_CREATE_VM: Final = 0xAE01
KVM_GET_MSR_INDEX_LIST: Final = 0xC004AE02
KVM_GET_VCPU_MMAP_SIZE: Final = 0xAE04
KVM_GET_SUPPORTED_CPUID: Final = 0xC008AE05

# system, vm
KVM_CHECK_EXTENSION: Final = 0xAE03

# vm
KVM_CREATE_VCPU: Final = 0xAE41
KVM_SET_USER_MEMORY_REGION: Final = 0x4020AE46

# vcpu
KVM_RUN: Final = 0xAE80
KVM_GET_REGS: Final = 0x8090AE81
KVM_SET_REGS: Final = 0x4090AE82
KVM_GET_SREGS: Final = 0x8138AE83
KVM_SET_SREGS: Final = 0x4138AE84
KVM_GET_MSRS: Final = 0xC008AE88
KVM_SET_MSRS: Final = 0x4008AE89
KVM_GET_FPU: Final = 0x81A0AE8C
KVM_SET_FPU: Final = 0x41A0AE8D
KVM_SET_CPUID2: Final = 0x4008AE90
KVM_GET_CPUID2: Final = 0xC008AE91
KVM_GET_MP_STATE: Final = 0x8004AE98
KVM_SET_MP_STATE: Final = 0x4004AE99

# vcpu, only in kvmshim: answered at once, the floor that KVM_RUN is measured against
KVMSHIM_ECHO: Final = 0x6B00
