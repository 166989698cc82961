"""Partitions of Hyper-V in which processors flush each other, and a look at who waits for whom.

Nobody sleeps and hopes here: the control socket tells that a vCPU is suspended, and on whom.
"""

import inspect
import itertools
import os
import signal
import struct
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from functools import wraps
from typing import Any, Final

from kvmshim.abi import constants_gen as kvm
from kvmshim.abi.ioctls_gen import KVM_HYPERV_SET_TLB_FLUSH_INHIBIT
from kvmshim.abi.structs_gen import kvm_hyperv_tlb_flush_inhibit
from kvmshim.observe.daemon import Daemon, ObserveError, daemons
from tests import hyperv as hv
from tests.deadline import deadline
from tests.hyperv import Guest
from tests.ioctl.test_hypercalls import switch_on
from tests.kvm import System, Vcpu
from tests.leftovers import wait_until
from tests.machine import DATA, STACK

ROUNDS: Final = int(os.environ.get("KVMSHIM_INHIBITS", "3"))
"""How often each test is done that could fail for reasons of time."""
ROUND_SECONDS: Final = 30
VCPU_IDS: Final = (0, 2, 65)
"""Of the processors 0, 1 and 2."""
CALL_AT: Final = hv.STEPS["call"]
MARK: Final = 0x5A5A
"""In RAX until the hypercall has ended."""
ALL_SPACES: Final = 2
CR4_OSFXSR: Final = 1 << 9
_VM_MARKS: Final = itertools.count(0x5EED_0000_0000)


def inhibit(vcpu: Vcpu, value: int = 1, *, flags: int = 0) -> None:
    """KVM_HYPERV_SET_TLB_FLUSH_INHIBIT."""
    wanted = kvm_hyperv_tlb_flush_inhibit(flags=flags, inhibit=value)
    vcpu.ioctl(KVM_HYPERV_SET_TLB_FLUSH_INHIBIT, wanted)


@dataclass(frozen=True)
class Form:
    """A way to flush the processors of a mask."""

    control: int
    mask: int = 0b111

    def prepare(self, vcpu: Vcpu, guest: Guest, address: int) -> None:
        """Puts the input where the hypercall finds it; `address` is where it may be in memory."""
        code, fast = self.control & 0xFFFF, self.control & hv.FAST
        is_set = code in (hv.FLUSH_SPACE_EX, hv.FLUSH_LIST_EX)
        header = [0, ALL_SPACES, *((0, 1, self.mask) if is_set else (self.mask,))]
        page = [0x4000_0000] if code in (hv.FLUSH_LIST, hv.FLUSH_LIST_EX) else []
        words = [*header, *page]
        if fast:
            hv.set_vectors(vcpu, words[2:])
        else:
            guest.machine.ram.write(address, struct.pack(f"<{len(words)}Q", *words))
        first, second = words[:2] if fast else (address, 0)
        vcpu.change_regs(rcx=self.control, rdx=first, r8=second, rax=MARK)

    @property
    def result(self) -> int:
        """RAX when the hypercall has ended."""
        return self.control & 0xFFF << 32


_ONE_PAGE: Final = 1 << 32
_ONE_WORD: Final = 1 << 17
FORMS: Final = {
    "space": Form(hv.FLUSH_SPACE),
    "space_fast": Form(hv.FLUSH_SPACE | hv.FAST),
    "list": Form(hv.FLUSH_LIST | _ONE_PAGE),
    "list_fast": Form(hv.FLUSH_LIST | hv.FAST | _ONE_PAGE),
    "space_ex": Form(hv.FLUSH_SPACE_EX | _ONE_WORD),
    "space_ex_fast": Form(hv.FLUSH_SPACE_EX | hv.FAST | _ONE_WORD),
    "list_ex": Form(hv.FLUSH_LIST_EX | _ONE_WORD | _ONE_PAGE),
    "list_ex_fast": Form(hv.FLUSH_LIST_EX | hv.FAST | _ONE_WORD | _ONE_PAGE),
}


class Partition:
    """Three processors that can flush each other."""

    def __init__(self, system: System, *, controllers: bool = True) -> None:
        self.system = system
        self.guest = Guest.of(system, controllers=controllers)
        vm = self.guest.machine.vm
        others = [vm.create_vcpu(vcpu_id) for vcpu_id in VCPU_IDS[1:]]
        self.vcpus: list[Vcpu] = [self.guest.vcpu, *others]
        call = hv.call_instruction(system)
        for vcpu in self.vcpus:
            if vcpu is not self.guest.vcpu:
                vcpu.set_cpuid(hv.cpuid_of_guest(system, vcpu))
                self.guest.load(vcpu, call)
            sregs = vcpu.sregs()
            sregs.cr4 |= CR4_OSFXSR
            vcpu.set_sregs(sregs)
            if controllers:
                switch_on(vcpu)
                vcpu.set_mp_state(kvm.KVM_MP_STATE_RUNNABLE)
        self.guest.introduce()
        self._daemon, self._vm = _find(self.guest.vcpu)
        system.owned.enter_context(self._daemon)

    def reset(self) -> None:
        """As it was made: nobody is inhibited, and memory for data is 0."""
        for vcpu in self.vcpus:
            inhibit(vcpu, 0)
        self.guest.machine.ram.write(DATA, bytes(0x1000))

    def state(self, place: int) -> dict[str, Any]:
        """What the control socket says of a processor."""
        answer = self._daemon.ask("vcpu", vm=self._vm, vcpu=VCPU_IDS[place])
        state: dict[str, Any] = answer["state"]
        return state

    def rip(self, place: int) -> int:
        """Where a processor is, by its own word."""
        answer = self._daemon.ask("regs", vm=self._vm, vcpu=VCPU_IDS[place])
        return int(answer["general"]["rip"], 16)

    def suspended_on(self, place: int) -> int | None:
        """For which processor this one waits in KVM_RUN."""
        state = self.state(place)
        if state["is"] != "suspended" or not state["suspended"]:
            return None
        return VCPU_IDS.index(state["suspended"]["on"])

    def wait_suspended(self, place: int, on: int) -> None:
        """Until this processor waits for that one."""
        wait_until(lambda: self.suspended_on(place) == on)

    def begin(self, place: int, form: Form, *, rflags: int = 2) -> "Flusher":
        """Has a processor flush, in a thread of its own."""
        vcpu = self.vcpus[place]
        vcpu.change_regs(rip=CALL_AT, rsp=STACK - 0x200 * place, rflags=rflags)
        form.prepare(vcpu, self.guest, DATA + place * 128)
        return Flusher(vcpu, form)


def repeated(test: Callable[..., None]) -> Callable[..., None]:
    """Does a test ROUNDS times, all with the same partition, each within a time of its own."""

    @wraps(test)
    def rounds(system: System, **arguments: object) -> None:
        partition = Partition(system)
        for number in range(ROUNDS):
            try:
                with deadline(ROUND_SECONDS):
                    test(partition, **arguments)
            except BaseException as error:
                error.add_note(f"in round {number}")
                raise
            partition.reset()

    _, *others = inspect.signature(test).parameters.values()
    asks = inspect.Parameter("system", inspect.Parameter.POSITIONAL_OR_KEYWORD)
    rounds.__signature__ = inspect.Signature([asks, *others])  # type: ignore[attr-defined]
    return rounds


class Flusher:
    """A vCPU in KVM_RUN, which is to flush and then to write to a port."""

    def __init__(self, vcpu: Vcpu, form: Form) -> None:
        self.vcpu = vcpu
        self.form = form
        self.error: OSError | None = None
        self.run()

    def run(self) -> None:
        """Enters KVM_RUN."""
        self.error = None
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self) -> None:
        try:
            self.vcpu.run()
        except OSError as error:
            self.error = error

    def interrupt(self) -> int | None:
        """Has a signal end KVM_RUN; the errno."""
        assert self.thread.ident is not None
        signal.pthread_kill(self.thread.ident, signal.SIGUSR1)
        self.thread.join()
        return self.error.errno if self.error else None

    def check_done(self) -> None:
        """The flush ends, and the guest goes on behind it."""
        self.thread.join()
        assert self.error is None
        assert self.vcpu.state.exit_reason == kvm.KVM_EXIT_IO
        assert self.vcpu.io.port == hv.DONE_PORT
        assert self.vcpu.regs().rax == self.form.result


def _find(vcpu: Vcpu) -> tuple[Daemon, str]:
    """The daemon that serves this process, and the VM of a vCPU 0: its R15 is like no other's.

    Names of VMs are given anew, and other daemons, and VMs before this one, may end meanwhile.
    """
    mark = next(_VM_MARKS)
    vcpu.change_regs(r15=mark)
    for daemon in daemons():
        with suppress(ObserveError):
            vms = daemon.ask("list")["vms"]
            names = [vm["vm"] for vm in vms if vm["process"] == os.getpid()]
            for name in names:
                if _r15(daemon, name) == mark:
                    return Daemon(daemon.path), name
    raise AssertionError("no daemon knows this vCPU")


def _r15(daemon: Daemon, name: str) -> int | None:
    with suppress(ObserveError):
        return int(daemon.ask("regs", vm=name, vcpu=0)["general"]["r15"], 16)
    return None
