"""`kvmshim ps`, of live VMs."""

import json
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from kvmshim.control import address
from tests import programs
from tests.cli.environment import COVERED_WITH_PUBLIC_FUSE, KVMSHIM, inside
from tests.observe.conftest import Client, client_of, kvmshim, said, vcpus_of, wait_until
from tests.ordinary_user import DROP_ROOT, ORDINARY_USER, needs_user_namespaces
from tests.server import ROOT, Server, public_directory

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

of = pytest.mark.parametrize
NOTHING = {"pending": None, "suspended": None}


def exits_of(client: Client) -> dict[str, int]:
    (vcpu,) = vcpus_of(client)
    exits: dict[str, int] = vcpu["exits"]
    return exits


@of("client", ["loop"], indirect=True)
def test_a_guest_that_loops_runs_and_makes_no_exit(client: Client) -> None:
    (vcpu,) = vcpus_of(client)
    assert vcpu["state"] == {"is": "running", **NOTHING, "last_exit": "io"}
    assert vcpu["instructions_per_second"] > 100_000
    assert (vcpu["exits"]["total"], vcpu["exits"]["io"]) == (1, 1)


@of("client", ["halt"], indirect=True)
def test_who_sleeps_says_what_for(client: Client) -> None:
    wait_until(
        client,
        lambda vcpus: [vcpu["state"]["is"] for vcpu in vcpus] == ["halted", "wait-for-init"],
    )


@of("client", ["suspended"], indirect=True)
def test_ti_17_who_is_suspended_says_on_whom(client: Client) -> None:
    state = vcpus_of(client)[0]["state"]
    assert state == {
        "is": "suspended",
        "pending": None,
        "last_exit": "io",
        "suspended": {"on": 2, "hypercall": "0x2"},
    }
    assert "suspended on vCPU 2 in hypercall 0x2" in said("ps")


@of("client", ["suspended"], indirect=True)
def test_ti_14_one_that_is_killed_leaves_nothing_suspended(client: Client) -> None:
    client.kill()
    while str(client.pid) in said("ps", "--json", "--interval", "0.05"):
        pass


@of("client", ["read"], indirect=True)
def test_what_user_space_owes_is_shown(client: Client) -> None:
    (vcpu,) = vcpus_of(client)
    expected = {**NOTHING, "is": "user-space", "pending": "io-read", "last_exit": "io"}
    assert vcpu["state"] == expected
    assert vcpu["instructions_per_second"] == 0


@of("client", ["read"], indirect=True)
def test_the_table_names_vms_without_a_vcpu_too(client: Client) -> None:
    table = said("ps")
    assert f"{client.pid}-0" in table
    assert "user space, owes a port read" in table
    assert f"{client.pid}-1" in table
    assert "no vCPU yet" in table


@of("client", ["exits"], indirect=True)
def test_exits_are_counted_by_reason(client: Client) -> None:
    wait_until(client, lambda vcpus: min(vcpus[0]["exits"][name] for name in ("io", "mmio")) > 0)
    client.send_signal(signal.SIGSTOP)
    exits, before = exits_of(client), None
    while exits != before:
        exits, before = exits_of(client), exits
    assert exits.pop("total") == exits.pop("to_user_space") == sum(exits.values())


def test_vms_of_a_process_that_ended_are_gone(daemon: Server) -> None:
    with client_of(daemon.path, "read") as client:
        pass
    while f"{client.pid}-" in said("ps"):
        pass


def test_vms_of_several_daemons_are_listed(daemon: Server, clients: Path) -> None:
    command = [sys.executable, "-m", "kvmshim", "run", "--", sys.executable, "-m"]
    command += ["tests.observe.client", "/dev/kvm", "loop"]
    with (
        client_of(daemon.path, "loop") as one,
        subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as other,
    ):
        assert clients == programs.BINARIES
        assert other.stdout is not None
        assert other.stdout.readline() == "up\n"
        vms = json.loads(said("ps", "--json"))
        assert len(vms) == 2
        assert f"{one.pid}-0" in {vm["vm"] for vm in vms}
        other.terminate()


def test_the_socket_is_gone_with_its_daemon(control_directory: Path) -> None:
    before = set(control_directory.iterdir())
    command = [sys.executable, "-m", "kvmshim", "run", "--", "ls", str(control_directory)]
    listed = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert len(listed.split()) == len(before) + 1
    assert set(control_directory.iterdir()) == before


def test_no_daemon_is_an_error_with_a_remedy(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("KVMSHIM_CONTROL_DIR", str(tmp_path))
    result = kvmshim("ps")
    assert (result.returncode, result.stdout) == (1, "")
    assert "kvmshim run" in result.stderr


@needs_user_namespaces
def test_an_ordinary_user_may_ask_its_daemon_and_so_may_root(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with public_directory() as directory:
        directory.chmod(0o700)
        os.chown(directory, ORDINARY_USER, ORDINARY_USER)
        monkeypatch.setenv(address.VARIABLE, str(directory))
        command = [*DROP_ROOT, *KVMSHIM, "run", "--", "sh", "-c", "echo up; cat"]
        with subprocess.Popen(
            inside(COVERED_WITH_PUBLIC_FUSE, command),
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        ) as run:
            assert run.stdout is not None
            assert run.stdout.readline() == "up\n"
            while not list(directory.glob("*.sock")):
                pass
            asked = subprocess.run(
                [*DROP_ROOT, *KVMSHIM, "ps"], cwd=ROOT, capture_output=True, text=True, check=False
            )
            assert asked.stdout == "no VM runs at the moment\n", asked.stderr
            assert said("ps") == "no VM runs at the moment\n"
            run.communicate("")
        assert run.returncode == 0
