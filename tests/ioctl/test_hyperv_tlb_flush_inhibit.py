"""KVM_HYPERV_SET_TLB_FLUSH_INHIBIT: who flushes an inhibited vCPU is suspended in KVM_RUN."""

import ctypes
import errno
import signal
from collections.abc import Iterator

import pytest

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import (
    KVM_GET_VCPU_EVENTS,
    KVM_HYPERV_SET_TLB_FLUSH_INHIBIT,
    KVM_NMI,
    KVM_SIGNAL_MSI,
    KVM_SMI,
)
from kvmshim.abi.profiles import KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT
from kvmshim.abi.structs_gen import kvm_hyperv_tlb_flush_inhibit, kvm_msi, kvm_vcpu_events
from tests import hyperv as hv
from tests.assembler import assemble
from tests.hyperv import STEPS
from tests.ioctl.test_stats_fd import statistics
from tests.kvm import System, Vcpu, refused
from tests.leftovers import wait_until
from tests.machine import CODE, DATA, Machine, Mode
from tests.server import serving
from tests.suspension import (
    CALL_AT,
    FORMS,
    MARK,
    ROUNDS,
    Flusher,
    Form,
    Partition,
    inhibit,
    repeated,
)

FAST = FORMS["space_fast"]
VECTOR, NMI, INIT = 0x40, 2, 5 << 8
RESET_RIP = 0xFFF0
SMM_SLOT, SMBASE = 1 << 16, 0x30000
SMM_ENTRY, SMM_SEEN, SMM_SAVED_RIP = 0x8000, 0xC000, 0xFF78
"""From SMBASE on."""
DONE = 0x77
INTERRUPTS_ENABLED = 0x202
SEEN_RIP, SEEN_RAX, SEEN = DATA + 0x800, DATA + 0x808, DATA + 0x810
HANDLER = f"""
    push rbx
    mov rbx, [rsp + 8]
    mov [{SEEN_RIP}], rbx
    mov [{SEEN_RAX}], rax
    inc qword ptr [{SEEN}]
    push rax; push rcx; push rdx
    mov ecx, {hv.EOI}; xor eax, eax; xor edx, edx; wrmsr
    pop rdx; pop rcx; pop rax; pop rbx
    iretq
"""


@pytest.fixture(autouse=True)
def empty_handler() -> Iterator[None]:
    """SIGUSR1 has a handler that does nothing."""
    previous = signal.signal(signal.SIGUSR1, lambda _number, _frame: None)
    yield
    signal.signal(signal.SIGUSR1, previous)


def interrupt(partition: Partition, place: int) -> None:
    """A fixed interrupt for a processor, by its vCPU's id."""
    message = kvm_msi(address_lo=0xFEE0_0000 | (0, 2, 65)[place] << 12, data=VECTOR)
    partition.guest.machine.vm.ioctl(KVM_SIGNAL_MSI, message)


def test_ti_01_the_capability_and_the_number(system: System) -> None:
    assert KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT == 239
    assert system.check_extension(KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT) == 1
    assert KVM_HYPERV_SET_TLB_FLUSH_INHIBIT == 0x4008_AED6
    assert ctypes.sizeof(kvm_hyperv_tlb_flush_inhibit) == 8


@pytest.mark.parametrize(("flags", "value"), [(0, 0), (0, 1), (0xFFFF, 1), (1, 0), (0, 255)])
def test_ti_02_flags_are_not_looked_at(system: System, flags: int, value: int) -> None:
    inhibit(Machine.of(system).vcpu, value, flags=flags)


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
def test_ti_02_strictly_they_are() -> None:
    with serving("--strict") as server:
        system = System(server.path)
        vcpu = Machine.of(system).vcpu
        for flags, value in ((0, 0), (0, 1)):
            inhibit(vcpu, value, flags=flags)
        for wanted in (
            kvm_hyperv_tlb_flush_inhibit(flags=1),
            kvm_hyperv_tlb_flush_inhibit(inhibit=2),
            kvm_hyperv_tlb_flush_inhibit(reserved=(ctypes.c_uint8 * 5)(0, 0, 0, 0, 1)),
        ):
            with refused(errno.EINVAL):
                vcpu.ioctl(KVM_HYPERV_SET_TLB_FLUSH_INHIBIT, wanted)
        system.close()


@pytest.mark.slow
@pytest.mark.usefixtures("guarded")
@pytest.mark.parametrize(("profile", "there"), [("mainline", False), ("tlb-inhibit", True)])
def test_ti_20_a_profile_has_it_or_not(profile: str, there: bool) -> None:
    with serving("--profile", profile) as server:
        system = System(server.path)
        vcpu = Machine.of(system).vcpu
        assert system.check_extension(KVM_CAP_HYPERV_TLB_FLUSH_INHIBIT) == there
        if there:
            inhibit(vcpu)
        else:
            with refused(errno.EINVAL):
                inhibit(vcpu)
        system.close()


@repeated
def test_ti_03_the_same_again_does_nothing(partition: Partition) -> None:
    for value in (0, 0, 1, 1):
        inhibit(partition.vcpus[1], value)
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[1], 1)
    inhibit(partition.vcpus[2], 0)
    assert partition.suspended_on(0) == 1
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()
    inhibit(partition.vcpus[1], 0)


@repeated
def test_ti_04_flushes_that_were_under_way_are_done(partition: Partition) -> None:
    """One processor flushes another one for ever; that one forgets nothing once it is inhibited."""
    flusher, target = partition.vcpus[0], partition.vcpus[1]
    call = hv.call_instruction(partition.system)
    source = f"again: {call}; cmp byte ptr [{SEEN}], 0; je again; out {DONE}, al"
    partition.guest.machine.ram.write(CODE, assemble(source, bits=64, origin=CODE))
    FAST.prepare(flusher, partition.guest, DATA)
    flusher.change_regs(rip=CODE)
    running = Flusher(flusher, FAST)
    with statistics(target) as counted:

        def flushes() -> int:
            """How often the target has forgotten, when it has run a little."""
            target.change_regs(rip=STEPS["wrmsr"], rcx=hv.VP_ASSIST_PAGE, rax=0, rdx=0)
            assert target.run() == kvm.KVM_EXIT_IO
            return counted.values()["tlb_flush"]

        for _ in range(2):
            inhibit(target)
            before = counted.values()["tlb_flush"]
            partition.wait_suspended(0, on=1)
            assert flushes() == before
            inhibit(target, 0)
            while flushes() == before:
                pass
    partition.guest.machine.ram.write(SEEN, b"\1")
    running.thread.join()
    assert flusher.io.port == DONE


@repeated
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_ti_05_a_flush_of_an_inhibited_vcpu_does_not_end(partition: Partition, form: Form) -> None:
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, form)
    before = None
    for _ in range(2):
        partition.wait_suspended(0, on=1)
        assert partition.state(0)["suspended"]["hypercall"] == hex(form.control & 0xFFFF)
        assert flusher.interrupt() == errno.EINTR
        regs = flusher.vcpu.regs()
        assert (regs.rip, regs.rax) == (CALL_AT, MARK)
        before = before or bytes(regs)
        assert bytes(regs) == before
        flusher.run()
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()


@repeated
@pytest.mark.parametrize("mask", [0b001, 0b101, 0b100])
def test_ti_05_a_flush_of_others_ends(partition: Partition, mask: int) -> None:
    inhibit(partition.vcpus[1])
    partition.begin(0, Form(FAST.control, mask)).check_done()


def test_ti_05_outside_64_bit_mode_too(system: System) -> None:
    guest = hv.Guest.introduced(system, mode=Mode.PROTECTED)
    inhibit(guest.vcpu)
    inhibit(guest.vcpu, 0)
    assert guest.call(hv.FLUSH_LIST | hv.FAST | 1 << 32) == 1 << 32


@repeated
def test_ti_06_what_a_vcpu_does_itself_is_not_inhibited(partition: Partition) -> None:
    vcpu = partition.vcpus[1]
    inhibit(vcpu)
    source = f"invlpg [rsp]; mov rax, cr3; mov cr3, rax; mov rax, cr4; mov cr4, rax; out {DONE}, al"
    partition.guest.machine.ram.write(CODE, assemble(source, bits=64, origin=CODE))
    vcpu.change_regs(rip=CODE, rsp=0x7000)
    assert (vcpu.run(), vcpu.io.port) == (kvm.KVM_EXIT_IO, DONE)


@repeated
def test_ti_06_what_the_host_flushes_is_not_inhibited(partition: Partition) -> None:
    """A slot comes and goes, for which vCPUs in KVM_RUN must forget: this one is suspended."""
    machine = partition.guest.machine
    inhibit(partition.vcpus[1])
    suspended = partition.begin(1, FAST)
    partition.wait_suspended(1, on=1)
    other = machine.vm.add_region(slot=1, gpa=0x10_0000, size=0x1000)
    machine.vm.set_region(slot=1, gpa=0x10_0000, size=0, address=other.address)
    partition.wait_suspended(1, on=1)
    assert suspended.interrupt() == errno.EINTR


@repeated
def test_ti_07_it_waits_for_the_first_and_then_for_the_next(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    inhibit(partition.vcpus[2])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[1], 0)
    partition.wait_suspended(0, on=2)
    inhibit(partition.vcpus[2], 0)
    flusher.check_done()


@repeated
def test_ti_07_the_one_it_does_not_wait_for_may_be_released_first(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    inhibit(partition.vcpus[2])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[2], 0)
    assert partition.suspended_on(0) == 1
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()


@repeated
def test_ti_08_all_that_wait_go_on(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    flushers = [partition.begin(place, FAST) for place in (0, 2)]
    for place in (0, 2):
        partition.wait_suspended(place, on=1)
    inhibit(partition.vcpus[1], 0)
    for flusher in flushers:
        flusher.check_done()


@repeated
def test_ti_08_it_may_be_suspended_anew(partition: Partition) -> None:
    for _ in range(3):
        inhibit(partition.vcpus[1])
        flusher = partition.begin(0, FAST)
        partition.wait_suspended(0, on=1)
        inhibit(partition.vcpus[1], 0)
        flusher.check_done()
    assert partition.state(0)["suspended"] is None


@repeated
def test_ti_09_rg_30_what_came_meanwhile_comes_before_the_hypercall(partition: Partition) -> None:
    machine = partition.guest.machine
    machine.handle(VECTOR, HANDLER, Mode.LONG)
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST, rflags=INTERRUPTS_ENABLED)
    partition.wait_suspended(0, on=1)
    interrupt(partition, 0)
    # The look at the registers passes the vCPU's thread: it has heard of the interrupt.
    assert partition.rip(0) == CALL_AT
    assert machine.peek(SEEN, 8) == 0
    assert partition.suspended_on(0) == 1
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()
    assert machine.peek(SEEN, 8) == 1
    assert (machine.peek(SEEN_RIP, 8), machine.peek(SEEN_RAX, 8)) == (CALL_AT, MARK)


@repeated
def test_ti_09_an_nmi_stays_pending(partition: Partition) -> None:
    machine = partition.guest.machine
    machine.handle(NMI, HANDLER, Mode.LONG)
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    assert flusher.interrupt() == errno.EINTR
    flusher.vcpu.ioctl(KVM_NMI)
    flusher.run()
    partition.wait_suspended(0, on=1)
    assert machine.peek(SEEN, 8) == 0
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()
    assert machine.peek(SEEN, 8) == 1
    assert (machine.peek(SEEN_RIP, 8), machine.peek(SEEN_RAX, 8)) == (CALL_AT, MARK)


def test_ti_09_an_smi_stays_pending(system: System) -> None:
    """Its handler comes before the hypercall: the state that it saves is that of the hypercall."""
    partition = Partition(system)
    smram = partition.guest.machine.vm.add_region(slot=SMM_SLOT, gpa=SMBASE, size=0x10000)
    handler = f"inc word ptr cs:[{SMM_SEEN}]; rsm"
    smram.write(SMM_ENTRY, assemble(handler, bits=16, origin=SMM_ENTRY))
    for number in range(1, ROUNDS + 1):
        inhibit(partition.vcpus[1])
        flusher = partition.begin(0, FAST)
        partition.wait_suspended(0, on=1)
        assert flusher.interrupt() == errno.EINTR
        flusher.vcpu.ioctl(KVM_SMI)
        flusher.run()
        partition.wait_suspended(0, on=1)
        assert smram.read(SMM_SEEN, 2) == (number - 1).to_bytes(2, "little")
        inhibit(partition.vcpus[1], 0)
        flusher.check_done()
        assert smram.read(SMM_SEEN, 2) == number.to_bytes(2, "little")
        assert smram.read(SMM_SAVED_RIP, 8) == CALL_AT.to_bytes(8, "little")


@repeated
def test_ti_09_an_init_stays_pending(partition: Partition) -> None:
    """Released, the processor waits for its start, and has flushed nothing."""
    place = 2
    before = partition.vcpus[place].sregs()
    inhibit(partition.vcpus[1])
    flusher = partition.begin(place, FAST)
    partition.wait_suspended(place, on=1)
    send_init = kvm_msi(address_lo=0xFEE0_0000 | 65 << 12, data=INIT)
    partition.guest.machine.vm.ioctl(KVM_SIGNAL_MSI, send_init)
    assert partition.rip(place) == CALL_AT
    assert partition.suspended_on(place) == 1
    inhibit(partition.vcpus[1], 0)
    wait_until(lambda: partition.state(place)["is"] == "wait-for-sipi")
    assert flusher.interrupt() == errno.EINTR
    assert flusher.vcpu.mp_state() == kvm.KVM_MP_STATE_INIT_RECEIVED
    assert flusher.vcpu.regs().rip == RESET_RIP
    flusher.vcpu.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
    flusher.vcpu.set_sregs(before)


@repeated
def test_ti_10_a_signal_ends_kvm_run_and_the_suspension_goes_on(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    for _ in range(3):
        partition.wait_suspended(0, on=1)
        assert flusher.interrupt() == errno.EINTR
        assert flusher.vcpu.state.exit_reason == kvm.KVM_EXIT_INTR
        state = partition.state(0)
        assert (state["is"], state["suspended"]["on"]) == ("user-space", 2)
        flusher.run()
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()


@repeated
def test_ti_10_released_outside_of_kvm_run_it_goes_on_in_it(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    assert flusher.interrupt() == errno.EINTR
    inhibit(partition.vcpus[1], 0)
    flusher.run()
    flusher.check_done()


@repeated
def test_ti_10_immediate_exit_returns_at_once(partition: Partition) -> None:
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    assert flusher.interrupt() == errno.EINTR
    flusher.vcpu.state.immediate_exit = 1
    with refused(errno.EINTR):
        flusher.vcpu.run()
    flusher.vcpu.state.immediate_exit = 0
    flusher.run()
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()


@repeated
def test_ti_11_it_is_runnable_and_nothing_is_seen_of_it(partition: Partition) -> None:
    vcpu = partition.vcpus[0]
    before = events(vcpu)
    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    assert flusher.interrupt() == errno.EINTR
    assert vcpu.mp_state() == kvm.KVM_MP_STATE_RUNNABLE
    assert events(vcpu) == before


def events(vcpu: Vcpu) -> bytes:
    told = kvm_vcpu_events()
    vcpu.ioctl(KVM_GET_VCPU_EVENTS, told)
    return bytes(told)


@repeated
def test_ti_12_one_that_flushes_itself_can_be_interrupted(partition: Partition) -> None:
    inhibit(partition.vcpus[0])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=0)
    assert flusher.interrupt() == errno.EINTR
    inhibit(partition.vcpus[0], 0)
    flusher.run()
    flusher.check_done()


def test_ti_13_without_hypervs_cpuid_it_is_taken(system: System) -> None:
    vcpu = system.create_vm().create_vcpu(0)
    inhibit(vcpu)
    inhibit(vcpu, 0)


def test_ti_15_rg_31_a_release_at_any_moment_is_not_missed(system: System) -> None:
    """Each hypercall may meet the inhibition, or its end, at any point."""
    partition = Partition(system)
    for _ in range(max(300, ROUNDS)):
        inhibit(partition.vcpus[1])
        flusher = partition.begin(0, FAST)
        inhibit(partition.vcpus[1], 0)
        flusher.check_done()


def test_ti_17_without_controllers_it_is_suspended_as_well(system: System) -> None:
    partition = Partition(system, controllers=False)
    for _ in range(ROUNDS):
        inhibit(partition.vcpus[1])
        flusher = partition.begin(0, FAST)
        partition.wait_suspended(0, on=1)
        inhibit(partition.vcpus[1], 0)
        flusher.check_done()
