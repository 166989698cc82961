"""Making and ending VMs and vCPUs: KVM_CREATE_VM, KVM_CREATE_VCPU, and the last close.

`Documentation/virt/kvm/api.rst`, KVM_CREATE_VM and KVM_CREATE_VCPU. A VM ends when its own file
and those of all its vCPUs are closed, in any order.
"""

import errno
import struct
from typing import Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi import limits
from kvmshim.abi.msr_index import MSR_IA32_APICBASE, MSR_IA32_APICBASE_BSP
from kvmshim.errors import KvmError
from kvmshim.handle.tsc_match import begin_tsc
from kvmshim.objects.system import System
from kvmshim.objects.vcpu import Vcpu
from kvmshim.objects.vm import Irqchip, Vm
from kvmshim.platform.caller import Caller
from microv import abi_gen as mv
from microv.ops import vm as vm_op
from microv.ops import vp as vp_op
from microv.ops import vs as vs_op
from microv.status import MvError

_FPU_AFTER_FNINIT: Final = struct.pack("<H22xII480x", 0x37F, 0x1F80, 0xFFFF)
"""An FXSAVE image: FCW, MXCSR, MXCSR_MASK; all else zero."""


def handle_system_create_vm(_: System, machine_type: int, caller: Caller) -> Vm:
    """KVM_CREATE_VM. Machine types are KVM_X86_DEFAULT_VM and KVM_X86_SW_PROTECTED_VM.

    Errors: EINVAL (another machine type), ENOMEM (no more VMs).
    """
    if machine_type not in (kvm.KVM_X86_DEFAULT_VM, kvm.KVM_X86_SW_PROTECTED_VM):
        raise KvmError(errno.EINVAL, f"there is no machine type {machine_type:#x}")
    try:
        vmid = vm_op.create_vm()
    except MvError as error:
        raise KvmError(errno.ENOMEM, "no more VMs") from error
    try:
        return Vm(vmid, caller.process, caller.vm_door(vmid), machine_type)
    except KvmError:
        vm_op.destroy_vm(vmid)
        raise


def handle_vm_create_vcpu(vm: Vm, vcpu_id: int, _: Caller) -> Vcpu:
    """KVM_CREATE_VCPU. `vcpu_id`, of which 32 bits count, becomes the APIC id.

    Errors: EINVAL (id or number of vCPUs out of range), EEXIST (id in use), ENOMEM.
    """
    vcpu_id &= 0xFFFF_FFFF
    if vcpu_id >= limits.KVM_MAX_VCPU_IDS:
        raise KvmError(errno.EINVAL, f"vCPU id {vcpu_id:#x} is out of range")
    with vm.lock:
        if vm.vcpu_id_bound and vcpu_id >= vm.vcpu_id_bound:
            raise KvmError(errno.EINVAL, f"vCPU ids are bound by {vm.vcpu_id_bound:#x}")
        if len(vm.vcpus) >= limits.KVM_MAX_VCPUS:
            raise KvmError(errno.EINVAL, "the VM has KVM_CAP_MAX_VCPUS vCPUs")
        if vcpu_id in vm.vcpus:
            raise KvmError(errno.EEXIST, f"vCPU id {vcpu_id:#x} is in use")
        vcpu = _new_vcpu(vm, vcpu_id)
        vm.vcpus[vcpu_id] = vcpu
        vm.files += 1
    return vcpu


def _new_vcpu(vm: Vm, vcpu_id: int) -> Vcpu:
    try:
        vpid = vp_op.create_vp(vm.vmid)
    except MvError as error:
        raise KvmError(errno.ENOMEM, "no more virtual processors") from error
    try:
        vsid = vs_op.create_vs(vpid)
    except MvError as error:
        vp_op.destroy_vp(vpid)
        raise KvmError(errno.ENOMEM, "no more virtual processor states") from error
    if vm.tsc_khz:
        vs_op.tsc_set_khz(vsid, vm.tsc_khz)
    boots = vcpu_id == vm.boot_vcpu_id
    _set_initial_state(vsid, boots=boots)
    if vm.irqchip is not Irqchip.NONE:
        vs_op.apic_id_set(vsid, vcpu_id)
        if boots:
            vs_op.mp_state_set(vsid, mv.mv_mp_state_t_running)
    vcpu = Vcpu(vm, vcpu_id, vpid, vsid)
    begin_tsc(vcpu)
    return vcpu


def _set_initial_state(vsid: int, *, boots: bool) -> None:
    """What KVM's new vCPU has unlike a processor at power-up.

    Its CPUID is empty, its FPU as after FNINIT, and only one of a VM is the boot processor.
    """
    vs_op.cpuid_set_list(vsid, [])
    vs_op.fpu_set_all(vsid, _FPU_AFTER_FNINIT)
    if not boots:
        apic_base = vs_op.msr_get(vsid, MSR_IA32_APICBASE)
        vs_op.msr_set(vsid, MSR_IA32_APICBASE, apic_base & ~MSR_IA32_APICBASE_BSP)


def release_vcpu(vcpu: Vcpu) -> None:
    """The file of `vcpu` is closed. The vCPU stays, and its id taken, until the VM ends."""
    release_vm(vcpu.vm)


def release_vm(vm: Vm) -> None:
    """A file that kept `vm` is closed; the last one ends it."""
    with vm.lock:
        vm.files -= 1
        if vm.files:
            return
        if vm.eventfds is not None:
            vm.eventfds.close()
            vm.eventfds = None
        vm.door.close()
        for vcpu in vm.vcpus.values():
            vs_op.destroy_vs(vcpu.vsid)
            vp_op.destroy_vp(vcpu.vpid)
        vm.vcpus.clear()
        vm_op.destroy_vm(vm.vmid)
        for slot in vm.slots.values():
            slot.close()
        vm.slots.clear()
