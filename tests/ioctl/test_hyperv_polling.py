"""Sources of messages that the guest polls: TLFS, "SINTx Registers". No kernel has them."""

import pytest

from kvmshim.abi import constants_gen as kvm
from tests import hyperv as hv
from tests.hyperv import Guest
from tests.ioctl.test_hypercalls import has_pending, switch_on
from tests.kvm import System
from tests.machine import DATA

VECTOR = 0x62
SINT = 3
SLOT = DATA + 256 * SINT
POLLED = 1 << 18
ENABLED_SINT = 1 | SINT << 16
EXPIRED = 0x8000_0010
PENDING = 1


def polling(system: System, sint: int, *, announced: bool = True) -> Guest:
    """A guest whose timers send to a source; interrupts are disabled."""
    features = hv.leaf(hv.supported(system), hv.FEATURES).edx
    features &= 0xFFFF_FFFF if announced else ~(1 << 17)
    guest = Guest.of(system, {hv.FEATURES: {"edx": features}}, controllers=True)
    switch_on(guest.vcpu)
    hv.enable(guest.vcpu, kvm.KVM_CAP_HYPERV_SYNIC2)
    guest.vcpu.set_msrs([(hv.SIMP, DATA | 1)])
    guest.wrmsr(hv.SINT0 + SINT, sint)
    assert guest.rdmsr(hv.SINT0 + SINT) == sint
    return guest


def expire(guest: Guest, timer: int) -> None:
    """Has a timer expire at once, and the guest execute something."""
    config = hv.STIMER0_CONFIG + 2 * timer
    guest.vcpu.set_msrs([(config + 1, 1), (config, ENABLED_SINT)])
    guest.rdmsr(hv.SVERSION)


@pytest.mark.parametrize(
    ("sint", "announced", "interrupts"),
    [
        (VECTOR, True, True),
        (VECTOR | POLLED, True, False),
        (VECTOR | POLLED, False, True),
    ],
)
def test_hv_47_polling_has_messages_without_interrupts(
    system: System, sint: int, *, announced: bool, interrupts: bool
) -> None:
    guest = polling(system, sint, announced=announced)
    expire(guest, 0)
    assert guest.machine.peek(SLOT) == EXPIRED
    assert has_pending(guest.vcpu, VECTOR) == interrupts


def test_hv_47_polling_the_next_message_comes_when_the_first_is_taken(system: System) -> None:
    guest = polling(system, VECTOR | POLLED)
    expire(guest, 0)
    expire(guest, 1)
    assert guest.machine.peek(SLOT + 5, 1) == PENDING
    guest.machine.ram.write(SLOT, bytes(4))
    guest.wrmsr(hv.EOM, 0)
    guest.rdmsr(hv.SVERSION)
    assert (guest.machine.peek(SLOT), guest.machine.peek(SLOT + 16)) == (EXPIRED, 1)
    assert not has_pending(guest.vcpu, VECTOR)
