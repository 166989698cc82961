"""Where vCPUs stand, in words: state, exits by reason, rates between two looks."""

from typing import Any, Final

from kvmshim.control.protocol import Json

_STATES: Final[dict[str, str]] = {
    "user-space": "user space",
    "running": "running",
    "halted": "halted",
    "wait-for-init": "waits for INIT",
    "wait-for-sipi": "waits for SIPI",
    "suspended": "suspended",
    "broken": "broken",
}
_OWED: Final = {
    "io-read": "owes a port read",
    "io-write": "after a port write",
    "mmio-read": "owes an MMIO read",
    "mmio-write": "after an MMIO write",
    "msr": "owes an MSR access",
    "hypercall": "owes a hypercall",
}
_SHOWN_REASONS: Final = 4
_SUMS: Final = ("total", "to_user_space")


def state_text(state: Json) -> str:
    """A state in words.

    >>> state_text({"is": "user-space", "pending": "io-read", "last_exit": "io"})
    'user space, owes a port read'
    >>> state_text({"is": "user-space", "pending": None, "last_exit": "hlt"})
    'user space, after hlt'
    >>> state_text({"is": "suspended", "suspended": {"on": 2, "hypercall": "0x13"}})
    'suspended on vCPU 2 in hypercall 0x13'
    """
    words = _words(state)
    suspended = state.get("suspended")
    if not suspended:
        return words
    where = f"on vCPU {suspended['on']} in hypercall {suspended['hypercall']}"
    return f"{words} {where}" if state["is"] == "suspended" else f"{words}, suspended {where}"


def _words(state: Json) -> str:
    words = _STATES.get(state["is"]) or str(state["is"])
    if state["is"] != "user-space":
        return words
    if state["pending"]:
        return f"{words}, {_OWED.get(state['pending'], state['pending'])}"
    return f"{words}, after {state['last_exit']}" if state["last_exit"] else f"{words}, never ran"


def exits_text(exits: Json) -> str:
    """The most frequent reasons with their counts.

    >>> exits_text({"total": 9, "to_user_space": 9, "io": 2, "mmio": 7, "hlt": 0})
    'mmio 7, io 2'
    """
    reasons = [(count, name) for name, count in exits.items() if name not in _SUMS and count]
    reasons.sort(reverse=True)
    return ", ".join(f"{name} {count}" for count, name in reasons[:_SHOWN_REASONS])


def rate(before: Json | None, now: Json) -> float | None:
    """Instructions per second between two looks at a vCPU; None where it was not there before."""
    if before is None or now["time_ns"] <= before["time_ns"]:
        return None
    seconds = (now["time_ns"] - before["time_ns"]) / 1e9
    executed: int = now["instructions"] - before["instructions"]
    return float(max(0.0, executed / seconds))


def with_rates(before: list[dict[str, Any]], now: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The VMs of the second look, each vCPU with `instructions_per_second`."""
    earlier = {(vm["vm"], vcpu["vcpu"]): vcpu for vm in before for vcpu in vm["vcpus"]}
    return [
        {
            **vm,
            "vcpus": [
                {
                    **vcpu,
                    "instructions_per_second": rate(earlier.get((vm["vm"], vcpu["vcpu"])), vcpu),
                }
                for vcpu in vm["vcpus"]
            ],
        }
        for vm in now
    ]


def rate_text(per_second: float | None) -> str:
    """A rate, short.

    >>> [rate_text(rate) for rate in (None, 0, 999, 1500, 12_345_678)]
    ['', '0', '999', '1.5k', '12.3M']
    """
    if per_second is None:
        return ""
    for factor, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if per_second >= factor:
            return f"{per_second / factor:.1f}{unit}"
    return f"{per_second:.0f}"
