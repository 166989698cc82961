"""`kvmshim regs`, of live VMs."""

import json

import pytest

from tests.machine import CODE, PML4, STACK
from tests.observe.conftest import Client, kvmshim, said, vcpus_of

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

of = pytest.mark.parametrize


@of("client", ["loop"], indirect=True)
def test_a_running_guest_shows_its_registers(client: Client) -> None:
    (answer,) = json.loads(said("regs", "--json", f"{client.pid}-0", "0"))
    general = answer["general"]
    assert (general["rax"], general["rsp"]) == ("0x1234", hex(STACK))
    assert CODE < int(general["rip"], 16) < CODE + 16
    assert answer["control"]["cr3"] == hex(PML4)
    assert answer["msrs"]["ia32_efer"] == "0x500"
    assert answer["segments"]["cs"]["selector"] == "0x8"


@of("client", ["loop"], indirect=True)
def test_a_guest_that_is_looked_at_does_not_leave(client: Client) -> None:
    counts = set()
    for _ in range(3):
        (answer,) = json.loads(said("regs", "--json", str(client.pid)))
        counts.add(answer["general"]["rcx"])
    assert len(counts) > 1
    (vcpu,) = vcpus_of(client)
    assert (vcpu["exits"]["total"], vcpu["state"]["is"]) == (1, "running")


@of("client", ["halt"], indirect=True)
def test_without_a_vcpu_all_are_shown(client: Client) -> None:
    text = said("regs", str(client.pid))
    assert f"VM {client.pid}-0 vCPU 0\n" in text
    assert f"VM {client.pid}-0 vCPU 1\n" in text
    assert "protected mode, 32 bits CPL=0" in text
    assert "real mode" in text


@of("client", ["halt"], indirect=True)
def test_the_local_apic_can_be_shown_instead(client: Client) -> None:
    one, two = json.loads(said("regs", "--json", "--lapic", str(client.pid)))
    assert (one["registers"]["id"], two["registers"]["id"]) == ("0x0", "0x1000000")
    assert one["vectors"] == {"isr": [], "tmr": [], "irr": []}
    assert "SVR           000000ff\n" in said("regs", "--lapic", str(client.pid), "0")


@of("client", ["loop"], indirect=True)
def test_a_local_apic_that_the_client_has_is_not_shown(client: Client) -> None:
    assert "none here" in said("regs", "--lapic", str(client.pid))


@of("client", ["loop"], indirect=True)
def test_the_text_has_names_for_bits(client: Client) -> None:
    text = said("regs", str(client.pid))
    assert "64-bit mode CPL=0" in text
    assert "RSP=0000000000008000" in text
    assert "IA32_EFER=0000000000000500 [LME LMA]" in text


@of("client", ["loop"], indirect=True)
@of(
    ("arguments", "remedy"),
    [(["1-7"], "there are: "), (["{pid}", "5"], "it has: 0"), (["{pid}-9"], "{pid}-0")],
)
def test_what_is_not_there_is_an_error_with_a_remedy(
    client: Client, arguments: list[str], remedy: str
) -> None:
    result = kvmshim("regs", *(argument.format(pid=client.pid) for argument in arguments))
    assert (result.returncode, result.stdout) == (1, "")
    assert remedy.format(pid=client.pid) in result.stderr


@of("client", ["read"], indirect=True)
def test_a_process_with_two_vms_must_be_told_apart(client: Client) -> None:
    result = kvmshim("regs", str(client.pid))
    assert result.returncode == 1
    assert "which VM?" in result.stderr
