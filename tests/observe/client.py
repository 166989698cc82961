"""Clients to be looked at, each a process of its own: `python -m tests.observe.client DEVICE KIND`.

It prints "up" when its guests are where they are to be, and stays until it is killed.
"""

import signal
import sys
import threading
from pathlib import Path
from typing import Final

from kvmshim.abi import constants_gen as kvm
from tests.kvm import System, Vcpu
from tests.machine import MMIO, Machine, Mode
from tests.suspension import FORMS, Partition, inhibit

LOOP: Final = "mov eax, 0x1234\n out 0x10, al\n again: inc ecx\n jmp again"
"""It counts for ever, behind one port write."""
HALT: Final = "out 0x10, al\n again: sti\n hlt\n jmp again"
OUTS: Final = "again: out 0x10, al\n jmp again"
READ: Final = "in al, 0x60\n hlt"
EXITS: Final = f"""
    mov al, 0x5a
 again:
    out 0x10, al
    in al, 0x60
    mov byte ptr [{MMIO:#x}], 0x77
    mov bl, byte ptr [{MMIO:#x}]
    int3
    jmp again
"""
"""Port and memory accesses again and again."""
HANDLER: Final = "iretd"


def _to_first_exit(vcpu: Vcpu) -> None:
    reason = vcpu.run()
    if reason != kvm.KVM_EXIT_IO:
        raise RuntimeError(f"exit reason {reason}")


def _run_for_ever(vcpu: Vcpu) -> None:
    threading.Thread(target=vcpu.run, daemon=True).start()


def _loop(system: System) -> None:
    machine = Machine.of(system)
    machine.load(LOOP, Mode.LONG)
    _to_first_exit(machine.vcpu)
    _run_for_ever(machine.vcpu)


def _halt(system: System) -> None:
    """vCPU 0 sleeps in HLT, vCPU 1 waits for its INIT."""
    machine = Machine.of(system, controllers=True)
    second = machine.vm.create_vcpu(1)
    machine.load(HALT, Mode.PROTECTED)
    _to_first_exit(machine.vcpu)
    _run_for_ever(machine.vcpu)
    _run_for_ever(second)


def _read(system: System) -> None:
    """A port read that is never answered; a second VM without a vCPU."""
    machine = Machine.of(system)
    machine.load(READ, Mode.REAL)
    _to_first_exit(machine.vcpu)
    system.create_vm()


def _exits(system: System) -> None:
    machine = Machine.of(system)
    machine.load(EXITS, Mode.PROTECTED)
    machine.handle(3, HANDLER, Mode.PROTECTED)

    def answer() -> None:
        while True:
            reason = machine.vcpu.run()
            if reason == kvm.KVM_EXIT_IO and not machine.vcpu.io.direction:
                machine.vcpu.io_data = b"\x1c"
            elif reason == kvm.KVM_EXIT_MMIO and not machine.vcpu.mmio.is_write:
                machine.vcpu.mmio_data = b"\x2d"

    threading.Thread(target=answer, daemon=True).start()


def _churn(system: System) -> None:
    """VMs that come, leave a few times, and go."""

    def come_and_go() -> None:
        while True:
            machine = Machine.of(system, controllers=True)
            machine.load(OUTS, Mode.PROTECTED)
            for _ in range(5):
                machine.vcpu.run()
            machine.vm.close()

    threading.Thread(target=come_and_go, daemon=True).start()


def _suspended(system: System) -> None:
    """vCPU 0 waits for vCPU 2, which may not be flushed."""
    partition = Partition(system)
    inhibit(partition.vcpus[1])
    partition.begin(0, FORMS["space_fast"])
    partition.wait_suspended(0, on=1)


KINDS: Final = {
    "loop": _loop,
    "halt": _halt,
    "read": _read,
    "exits": _exits,
    "churn": _churn,
    "suspended": _suspended,
}


def main() -> None:
    """Become what the arguments say."""
    device, kind = sys.argv[1:]
    KINDS[kind](System(Path(device)))
    print("up", flush=True)
    signal.pause()


if __name__ == "__main__":
    main()
