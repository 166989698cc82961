"""`kvmshim trace`, of live VMs."""

import json
import subprocess
import sys
from typing import Any

import pytest

from tests.machine import CODE, MMIO
from tests.observe.conftest import Client, client_of, kvmshim, said, vcpus_of, wait_until
from tests.server import ROOT, Server

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]

of = pytest.mark.parametrize
TRACE = [sys.executable, "-m", "kvmshim", "trace"]


def traced(client: Client, *options: str) -> list[dict[str, Any]]:
    lines = said("trace", "--json", *options, str(client.pid)).splitlines()
    return [json.loads(line) for line in lines]


@of("client", ["exits"], indirect=True)
def test_exits_and_answers_are_shown_with_their_values(client: Client) -> None:
    records = traced(client, "--count", "60")
    assert len(records) == 60
    about = {
        (record["kind"], record.get("reason"), record.get("write"), record.get("value"))
        for record in records
    }
    assert about >= {
        ("exit", "io", True, 0x1C),
        ("exit", "io", False, None),
        ("answer", None, None, 0x1C),
        ("exit", "mmio", True, 0x77),
        ("exit", "mmio", False, None),
        ("answer", None, None, 0x2D),
    }
    places = {record.get("port", record.get("gpa")) for record in records}
    assert places == {0x10, 0x60, MMIO, None}


@of("client", ["exits"], indirect=True)
def test_numbers_rise_and_so_do_times(client: Client) -> None:
    records = [record for record in traced(client, "--count", "40") if record["kind"] != "lost"]
    numbers = [record["number"] for record in records]
    assert numbers == sorted(set(numbers))
    times = [record["time_ns"] for record in records]
    assert times == sorted(times)


@of("client", ["exits"], indirect=True)
def test_nothing_is_older_than_the_trace(client: Client) -> None:
    lines = said("trace", "--instructions", "--count", "20", str(client.pid)).splitlines()
    assert all(float(line.split()[0]) >= 0 for line in lines if "lost" not in line)


@of("client", ["exits"], indirect=True)
def test_a_line_names_the_vcpu_the_place_and_the_value(client: Client) -> None:
    text = said("trace", "--count", "30", str(client.pid), "0")
    assert f" {client.pid}-0/0 " in text
    assert "exit io write port 0x10 size 1 value 0x" in text
    assert "answer value 0x1c size 1" in text


@of("client", ["loop"], indirect=True)
def test_instructions_are_disassembled(client: Client) -> None:
    records = traced(client, "--instructions", "--count", "200")
    texts = {record["text"] for record in records if record["kind"] == "instruction"}
    assert texts == {"inc ecx", f"jmp short {CODE + 7:#x}"}


@of("client", ["loop"], indirect=True)
def test_the_guest_runs_at_full_speed_when_the_trace_has_ended(client: Client) -> None:
    said("trace", "--instructions", "--count", "10", str(client.pid))
    wait_until(client, lambda vcpus: vcpus[0]["instructions_per_second"] > 5_000_000)


@of("client", ["loop"], indirect=True)
def test_who_reads_nothing_does_not_slow_the_guest(client: Client) -> None:
    command = [*TRACE, "--instructions", str(client.pid)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0) as deaf:
        try:
            assert deaf.stdout is not None
            assert deaf.stdout.readline()
            wait_until(client, lambda vcpus: vcpus[0]["instructions_per_second"] > 5_000_000)
            assert deaf.poll() is None
        finally:
            deaf.kill()
    assert vcpus_of(client)[0]["exits"]["total"] == 1


@of("client", ["exits"], indirect=True)
def test_who_wants_no_instructions_sees_none_of_another_trace(client: Client) -> None:
    command = [*TRACE, "--instructions", str(client.pid)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, bufsize=0) as other:
        try:
            assert other.stdout is not None
            assert other.stdout.readline()
            kinds = {record["kind"] for record in traced(client, "--count", "50")}
            assert kinds <= {"exit", "answer", "lost"}
        finally:
            other.kill()


def test_a_trace_ends_with_its_vm(daemon: Server) -> None:
    with client_of(daemon.path, "exits") as client:
        command = [*TRACE, str(client.pid)]
        trace = subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True)
        assert trace.stdout is not None
        assert trace.stdout.readline()
    trace.communicate()
    assert trace.returncode == 0


@of("client", ["exits"], indirect=True)
def test_a_pipe_that_closes_ends_the_trace(client: Client) -> None:
    command = [*TRACE, str(client.pid)]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as it:
        assert it.stdout is not None
        assert it.stdout.readline()
        it.stdout.close()
        assert it.wait() == 0
        assert it.stderr is not None
        assert it.stderr.read() == b""


@of("client", ["loop"], indirect=True)
def test_a_vcpu_that_is_not_there_is_an_error(client: Client) -> None:
    result = kvmshim("trace", str(client.pid), "3")
    assert result.returncode == 1
    assert "it has: 0" in result.stderr
