"""Traces: who wants which vCPU to record what, and records as they go to clients.

A vCPU records while somebody has it traced, and steps only while somebody who reads wants its
instructions. Records that a client did not fetch in time are lost for it, and counted.
"""

import base64
import threading
import time
from collections.abc import Sequence
from typing import Any, Final

from kvmshim.objects.living import Living
from kvmshim.objects.vcpu import Vcpu
from microv import abi_gen as mv
from microv.ops import observe
from microv.status import MvError

_LITTLE: Final = mv.MV_TRACE_EXITS | mv.MV_TRACE_EVENTS
_PORTIONS: Final = 16
"""Pages of records that one line has at most."""


class Wishes:
    """What is to be recorded of each vCPU: what anybody wants. Any thread may call."""

    def __init__(self, living: Living) -> None:
        self._living = living
        self._lock = threading.Lock()
        self._wanted: dict[Vcpu, dict[object, int]] = {}

    def set(self, vcpu: Vcpu, who: object, wanted: int) -> None:
        """`who` wants this recorded (MV_TRACE_*) instead of what it wanted before; 0: nothing."""
        with self._lock:
            wishes = self._wanted.pop(vcpu, {}) | {who: wanted}
            wishes = {client: wish for client, wish in wishes.items() if wish}
            if wishes:
                self._wanted[vcpu] = wishes
            together = 0
            for wish in wishes.values():
                together |= wish
            # The number of a vCPU that has ended may be another one's.
            if vcpu.vm in self._living.all().values():
                observe.trace_set(vcpu.vsid, together)


class Tracing:
    """The trace of some vCPUs of one VM for one client. Ended by `close`."""

    def __init__(self, wishes: Wishes, vcpus: Sequence[Vcpu], *, instructions: bool) -> None:
        """MvError: a vCPU has just ended."""
        self._wishes = wishes
        self._vcpus = vcpus
        self._wanted = _LITTLE | (mv.MV_TRACE_INSTRUCTIONS if instructions else 0)
        self._next: dict[Vcpu, int] = {}
        # Before anything is recorded, so that no record is older.
        head, _ = observe.trace_read(vcpus[0].vsid)
        self._clock = {
            "time_ns": time.monotonic_ns(),
            "tsc": head.tsc,
            "tsc_khz": head.tsc_khz,
        }
        try:
            for vcpu in vcpus:
                head, _ = observe.trace_read(vcpu.vsid)
                self._next[vcpu] = head.next
                wishes.set(vcpu, self, self._wanted)
        except MvError:
            self.close()
            raise

    @property
    def beginning(self) -> dict[str, Any]:
        """What a client needs to understand the records."""
        return {"vcpus": [vcpu.vcpu_id for vcpu in self._vcpus], "clock": self._clock}

    def read(self) -> list[dict[str, Any]] | None:
        """What has come of each vCPU since the last time; None: the VM has ended."""
        try:
            return self._read_all() if self._vcpus[0].vm.files else None
        except MvError:
            return None

    def _read_all(self) -> list[dict[str, Any]]:
        portions = [self._read(vcpu) for vcpu in self._vcpus]
        return [portion for portion in portions if portion["records"] or portion["lost"]]

    def _read(self, vcpu: Vcpu) -> dict[str, Any]:
        lost, records = 0, b""
        for _ in range(_PORTIONS):
            head, portion = observe.trace_read(vcpu.vsid, self._next[vcpu])
            self._next[vcpu] = head.next
            lost += head.lost
            records += portion
            if head.num_records < mv.MV_TRACE_MAX_RECORDS:
                break
        return {
            "vcpu": vcpu.vcpu_id,
            "lost": lost,
            "records": base64.b64encode(records).decode(),
        }

    def pause(self) -> None:
        """The client does not read: its wish for instructions is not to slow the guest."""
        self._set(_LITTLE)

    def resume(self) -> None:
        """It reads again."""
        self._set(self._wanted)

    def close(self) -> None:
        """Nothing is recorded for the client any more."""
        self._set(0)

    def _set(self, wanted: int) -> None:
        for vcpu in self._vcpus:
            try:
                self._wishes.set(vcpu, self, wanted)
            except MvError:
                # It has ended, and so has its trace.
                continue
