"""KVM_CAP_DISABLE_QUIRKS, KVM_CAP_DISABLE_QUIRKS2, and the hypercalls that a quirk repairs."""

import errno

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_CREATE_IRQCHIP, KVM_ENABLE_CAP, KVM_GET_LAPIC
from kvmshim.abi.structs_gen import kvm_enable_cap, kvm_lapic_state
from tests.kvm import System, Vm, refused
from tests.machine import CODE, Machine, Mode

ALL = 0x7F
VMCALL = b"\x0f\x01\xc1"
VMMCALL = b"\x0f\x01\xd9"
UD = 6
KVM_HC_SCHED_YIELD = 11
KVM_ENOSYS = 1000
MISC_ENABLE = 0x1A0
MISC_ENABLE_MWAIT = 1 << 18
LVT_LINT0 = 0x350
LVT_MASKED = 1 << 16
EXT_INT = 0x700
APIC_PAGE = 0xFEE0_0000


def disable(
    vm: Vm, quirks: int, capability: int = kvm.KVM_CAP_DISABLE_QUIRKS2, *, flags: int = 0
) -> None:
    wanted = kvm_enable_cap(cap=capability, flags=flags)
    wanted.args[0] = quirks
    vm.ioctl(KVM_ENABLE_CAP, wanted)


def calls(system: System) -> tuple[bytes, bytes]:
    """The hypercall of the processor's vendor, and the other one."""
    is_amd = system.supported_cpuid()[0].ebx == int.from_bytes(b"Auth", "little")
    return (VMMCALL, VMCALL) if is_amd else (VMCALL, VMMCALL)


def load_call(machine: Machine, system: System, instruction: bytes, number: int) -> None:
    """Code that calls and halts; #UD leaves 0xBAD in RAX."""
    machine.vcpu.set_cpuid(system.supported_cpuid())
    code = ", ".join(hex(byte) for byte in instruction)
    machine.load(f"mov rax, {number}; .byte {code}; hlt", Mode.LONG)
    machine.handle(UD, "mov eax, 0xbad; hlt", Mode.LONG)


def result_of(machine: Machine) -> int:
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    return machine.vcpu.regs().rax


def test_quirks_are_announced(system: System) -> None:
    assert system.check_extension(kvm.KVM_CAP_DISABLE_QUIRKS) == 1
    assert system.check_extension(kvm.KVM_CAP_DISABLE_QUIRKS2) == ALL


@pytest.mark.parametrize("quirks", [ALL + 1, 1 << 63, (1 << 64) - 1], ids=hex)
def test_unknown_quirk_is_refused(vm: Vm, quirks: int) -> None:
    with refused(errno.EINVAL):
        disable(vm, quirks)


def test_old_capability_ignores_unknown_quirks(vm: Vm) -> None:
    disable(vm, (1 << 64) - 1, kvm.KVM_CAP_DISABLE_QUIRKS)


@pytest.mark.parametrize("capability", [kvm.KVM_CAP_DISABLE_QUIRKS, kvm.KVM_CAP_DISABLE_QUIRKS2])
def test_flags_are_refused(vm: Vm, capability: int) -> None:
    with refused(errno.EINVAL):
        disable(vm, 0, capability, flags=1)


@pytest.mark.parametrize(
    ("number", "result"),
    [(KVM_HC_SCHED_YIELD, 0), (0, -KVM_ENOSYS), (1 << 32 | KVM_HC_SCHED_YIELD, -KVM_ENOSYS)],
)
def test_hypercall_is_answered(machine: Machine, system: System, number: int, result: int) -> None:
    load_call(machine, system, calls(system)[0], number)
    assert result_of(machine) == result % (1 << 64)


def test_hypercall_outside_64_bit_mode_answers_in_32_bits(machine: Machine, system: System) -> None:
    machine.vcpu.set_cpuid(system.supported_cpuid())
    code = ", ".join(hex(byte) for byte in calls(system)[0])
    machine.load(f"xor eax, eax; .byte {code}; hlt", Mode.PROTECTED)
    assert result_of(machine) == -KVM_ENOSYS % (1 << 32)


def test_hypercall_of_user_code_is_forbidden(machine: Machine, system: System) -> None:
    machine.vcpu.set_cpuid(system.supported_cpuid())
    code = ", ".join(hex(byte) for byte in calls(system)[0])
    machine.load(f"mov eax, {KVM_HC_SCHED_YIELD}; .byte {code}; out 0x10, al", Mode.REAL)
    sregs = machine.vcpu.sregs()
    sregs.cr0 |= 1
    for name in ("cs", "ds", "es", "ss"):
        segment = getattr(sregs, name)
        segment.selector, segment.dpl = 3, 3
    machine.vcpu.set_sregs(sregs)
    machine.vcpu.change_regs(rflags=0x3002)
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    assert machine.vcpu.regs().rax == -1 % (1 << 32)


def test_other_vendors_hypercall_is_repaired(machine: Machine, system: System) -> None:
    native, other = calls(system)
    load_call(machine, system, other, KVM_HC_SCHED_YIELD)
    at = bytes(machine.ram.read(CODE, 64)).index(other)
    assert result_of(machine) == 0
    assert machine.ram.read(CODE + at, len(native)) == native


def test_other_vendors_hypercall_is_undefined_without_the_quirk(
    machine: Machine, system: System
) -> None:
    _, other = calls(system)
    load_call(machine, system, other, KVM_HC_SCHED_YIELD)
    code = machine.ram.read(CODE, 64)
    disable(machine.vm, kvm.KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
    assert result_of(machine) == 0xBAD
    assert machine.ram.read(CODE, 64) == code


def test_quirk_that_is_not_named_again_is_back(machine: Machine, system: System) -> None:
    load_call(machine, system, calls(system)[1], KVM_HC_SCHED_YIELD)
    disable(machine.vm, kvm.KVM_X86_QUIRK_FIX_HYPERCALL_INSN)
    disable(machine.vm, 0)
    assert result_of(machine) == 0


def load_mwait(machine: Machine, system: System) -> None:
    """A vCPU without MONITOR and MWAIT uses both; #UD leaves 0xBAD in RAX."""
    entries = system.supported_cpuid()
    for entry in entries:
        if entry.function == 1:
            entry.ecx &= ~(1 << 3)
    machine.vcpu.set_cpuid(entries)
    machine.load(
        "mov eax, 0x4000; xor ecx, ecx; xor edx, edx; monitor; mwait; mov eax, 1; cpuid;"
        " shr ecx, 3; and ecx, 1; mov eax, ecx; hlt",
        Mode.LONG,
    )
    machine.handle(UD, "mov eax, 0xbad; hlt", Mode.LONG)


@pytest.mark.parametrize(
    ("disabled", "enabled_by_msr", "result"),
    [
        (0, False, 0),
        (0, True, 0),
        (kvm.KVM_X86_QUIRK_MWAIT_NEVER_UD_FAULTS, True, 0xBAD),
        (kvm.KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, False, 0),
        (kvm.KVM_X86_QUIRK_MISC_ENABLE_NO_MWAIT, True, 1),
        (ALL, False, 0xBAD),
        (ALL, True, 1),
    ],
)
def test_mwait(
    machine: Machine, system: System, disabled: int, enabled_by_msr: bool, result: int
) -> None:
    load_mwait(machine, system)
    disable(machine.vm, disabled)
    (misc_enable,) = machine.vcpu.msrs([MISC_ENABLE])
    if enabled_by_msr:
        machine.vcpu.set_msrs([(MISC_ENABLE, misc_enable | MISC_ENABLE_MWAIT)])
    assert result_of(machine) == result


@pytest.mark.parametrize(("disabled", "steps"), [(0, 2), (ALL, 0)], ids=["quirk", "none"])
def test_out_to_port_7e_is_over_at_the_exit(machine: Machine, disabled: int, steps: int) -> None:
    disable(machine.vm, disabled)
    machine.load("out 0x7e, al; hlt", Mode.REAL)
    assert machine.vcpu.run() == kvm.KVM_EXIT_IO
    assert machine.vcpu.regs().rip == CODE + steps
    assert machine.vcpu.run() == kvm.KVM_EXIT_HLT
    assert machine.vcpu.regs().rip == CODE + 3


@pytest.mark.parametrize(("disabled", "lint0"), [(0, EXT_INT), (ALL, LVT_MASKED)])
def test_lint0_of_the_boot_processor(vm: Vm, disabled: int, lint0: int) -> None:
    vm.ioctl(KVM_CREATE_IRQCHIP)
    disable(vm, disabled)
    state = kvm_lapic_state()
    vm.create_vcpu(0).ioctl(KVM_GET_LAPIC, state)
    assert int.from_bytes(bytes(state)[LVT_LINT0 : LVT_LINT0 + 4], "little") == lint0


@pytest.mark.parametrize("disabled", [0, ALL], ids=["quirk", "none"])
def test_page_of_a_local_apic_that_is_off(system: System, disabled: int) -> None:
    machine = Machine.of(system, controllers=True)
    disable(machine.vm, disabled)
    machine.load(
        f"mov dword ptr [{APIC_PAGE + 0x80}], 5; mov eax, [{APIC_PAGE + 0x80}]; out 0x10, al",
        Mode.PROTECTED,
    )
    sregs = machine.vcpu.sregs()
    sregs.apic_base = APIC_PAGE | 1 << 8
    machine.vcpu.set_sregs(sregs)
    exits = [machine.vcpu.run()]
    while exits[-1] == kvm.KVM_EXIT_MMIO:
        machine.vcpu.mmio_data = b"\x01\x02\x03\x04"
        exits.append(machine.vcpu.run())
    if disabled:
        assert exits == [kvm.KVM_EXIT_MMIO, kvm.KVM_EXIT_MMIO, kvm.KVM_EXIT_IO]
    else:
        assert exits == [kvm.KVM_EXIT_IO]
        assert machine.vcpu.regs().rax == 0xFFFF_FFFF
