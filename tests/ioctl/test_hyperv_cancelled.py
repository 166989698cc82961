"""Threads of suspended vCPUs that pthread_cancel ends, and guests that pass the time with NOPs.

So the public tests of flushes and of their inhibition end their threads, and wait.
"""

import ctypes
from collections.abc import Callable
from pathlib import Path
from typing import Final

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.assembler import assemble
from tests.kvm import System
from tests.machine import CODE, DATA, STACK
from tests.suspension import CALL_AT, FORMS, MARK, Flusher, Partition, inhibit

FAST: Final = FORMS["space_fast"]
DELAYER: Final = CODE + 0x400
FLUSHED: Final = DATA + 0xC00
NOPS: Final = 100_000_000
IN_A_ROW: Final = 200


@pytest.fixture(scope="module")
def library(clients: Path) -> ctypes.CDLL:
    return ctypes.CDLL(str(clients / "libcancellable.so"))


def begin(library: ctypes.CDLL, partition: Partition, place: int) -> Callable[[], bool]:
    """Has a processor flush, in a thread; the result ends that: whether it was in KVM_RUN."""
    vcpu = partition.vcpus[place]
    vcpu.change_regs(rip=CALL_AT, rsp=STACK)
    FAST.prepare(vcpu, partition.guest, DATA)
    thread = ctypes.c_uint64()
    assert library.cancellable_begin(vcpu.fd, ctypes.byref(thread))
    return lambda: bool(library.cancellable_end(thread))


def test_ti_10_a_suspended_thread_is_cancelled_and_another_one_goes_on(
    system: System, library: ctypes.CDLL
) -> None:
    partition = Partition(system)
    inhibit(partition.vcpus[1])
    for _ in range(3):
        cancel = begin(library, partition, 0)
        partition.wait_suspended(0, on=1)
        assert cancel()
        assert partition.state(0)["is"] == "user-space"
        regs = partition.vcpus[0].regs()
        assert (regs.rip, regs.rax) == (CALL_AT, MARK)
    flusher = Flusher(partition.vcpus[0], FAST)
    partition.wait_suspended(0, on=1)
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()


def test_ti_14_a_vm_ends_whose_suspended_threads_are_cancelled(
    system: System, library: ctypes.CDLL
) -> None:
    partition = Partition(system)
    for vcpu in partition.vcpus:
        inhibit(vcpu)
    cancels = [begin(library, partition, place) for place in range(3)]
    for place in range(3):
        partition.wait_suspended(place, on=0)
    assert [cancel() for cancel in cancels] == [True] * 3


def test_hv_00o_a_flush_does_not_end_while_another_processor_executes_100_million_nops(
    system: System,
) -> None:
    partition = Partition(system)
    ram = partition.guest.machine.ram
    mark = f"mov byte ptr [{FLUSHED}], 1; out {hv.DONE_PORT:#x}, al; hlt"
    call = hv.call_instruction(system)
    ram.write(CALL_AT, assemble(f"{call}; {mark}", bits=64, origin=CALL_AT))
    nops = "nop; " * IN_A_ROW
    delay = f"again: {nops} dec ecx; jnz again; mov al, [{FLUSHED}]; out 0x56, al; hlt"
    ram.write(DELAYER, assemble(delay, bits=64, origin=DELAYER))

    def flushed_after_nops() -> bool:
        vcpu = partition.vcpus[2]
        vcpu.change_regs(rip=DELAYER, rcx=NOPS // IN_A_ROW, rax=0x77)
        assert (vcpu.run(), vcpu.io.port) == (kvm.KVM_EXIT_IO, 0x56)
        return bool(vcpu.regs().rax & 0xFF)

    inhibit(partition.vcpus[1])
    flusher = partition.begin(0, FAST)
    partition.wait_suspended(0, on=1)
    assert not flushed_after_nops()
    inhibit(partition.vcpus[1], 0)
    flusher.check_done()
    assert flushed_after_nops()
