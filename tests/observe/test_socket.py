"""The control socket of a live daemon: whatever a client sends, the daemon goes on."""

import json
import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import IO

import pytest

from tests.deadline import deadline
from tests.leftovers import wait_until
from tests.observe.conftest import client_of, vcpus_of
from tests.ordinary_user import DROP_ROOT
from tests.server import Server

pytestmark = [pytest.mark.usefixtures("guarded"), pytest.mark.slow]


@pytest.fixture
def path(daemon: Server, control_directory: Path) -> Path:
    """The socket of the daemon."""
    return control_directory / f"{daemon.pid}.sock"


@pytest.fixture
def connection(path: Path) -> Iterator[tuple[socket.socket, IO[bytes]]]:
    """A connection that was greeted."""
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(path))
        with connected.makefile("rb") as lines:
            assert json.loads(lines.readline())["kvmshim"] == 1
            yield connected, lines


@pytest.fixture
def idle(connection: tuple[socket.socket, IO[bytes]]) -> None:
    """No VM of another test lives any more: a client's end some time after it."""
    connected, lines = connection

    def has_no_vm() -> bool:
        connected.sendall(b'{"do":"list"}\n')
        answer = json.loads(lines.readline())["answer"]
        return bool(answer == {"vms": []})

    with deadline(30):
        wait_until(has_no_vm)


def test_the_greeting_says_who_it_is(path: Path, daemon: Server) -> None:
    with socket.socket(socket.AF_UNIX) as connected:
        connected.connect(str(path))
        greeting = json.loads(connected.makefile("rb").readline())
    label = f"serve --fuse {daemon.path}"
    assert greeting == {"kvmshim": 1, "pid": daemon.pid, "label": label}


@pytest.mark.usefixtures("idle")
def test_requests_are_answered_in_order_with_their_number(
    connection: tuple[socket.socket, IO[bytes]],
) -> None:
    connected, lines = connection
    connected.sendall(b'{"do":"list","id":1}\n{"do":"nothing","id":2}\n{"do":"list"}\n')
    one, two, three = (json.loads(lines.readline()) for _ in range(3))
    assert (one["id"], one["answer"]) == (1, {"vms": []})
    assert (two["id"], two["error"]["kind"]) == (2, "bad-request")
    assert (three["id"], three["answer"]) == (None, {"vms": []})


@pytest.mark.parametrize(
    ("request_", "kind"),
    [
        ({"do": "regs"}, "bad-request"),
        ({"do": "regs", "vm": 1, "vcpu": 0}, "bad-request"),
        ({"do": "regs", "vm": "1-0", "vcpu": 0}, "no-vm"),
        ({"do": "vm", "vm": "1-0"}, "no-vm"),
        ({"do": "vcpu", "vm": "x" * 1000, "vcpu": 0}, "no-vm"),
    ],
)
def test_what_is_not_there_is_refused(
    connection: tuple[socket.socket, IO[bytes]], request_: dict[str, object], kind: str
) -> None:
    connected, lines = connection
    connected.sendall(json.dumps(request_).encode() + b"\n")
    assert json.loads(lines.readline())["error"]["kind"] == kind


@pytest.mark.parametrize(
    "garbage", [b"\n", b"\0" * 100 + b"\n", b"[" * 10_000 + b"\n", b"x" * 20_000, b"{}\n", b"1\n"]
)
def test_garbage_is_refused_and_cut_off(
    connection: tuple[socket.socket, IO[bytes]], garbage: bytes
) -> None:
    connected, lines = connection
    connected.sendall(garbage)
    assert json.loads(lines.readline())["error"]["kind"] == "bad-request"
    # What it had not read yet is a reset.
    with suppress(ConnectionResetError):
        assert lines.read() == b""


def test_who_hangs_keeps_nobody_waiting(path: Path, daemon: Server) -> None:
    hanging = [socket.socket(socket.AF_UNIX) for _ in range(20)]
    for connected in hanging:
        connected.connect(str(path))
        connected.sendall(b'{"do":')
    with client_of(daemon.path, "loop") as client:
        assert vcpus_of(client)[0]["instructions_per_second"] > 0
    for connected in hanging:
        connected.close()


def test_who_reads_nothing_keeps_nobody_waiting(path: Path, daemon: Server) -> None:
    with socket.socket(socket.AF_UNIX) as deaf:
        deaf.connect(str(path))
        deaf.setblocking(False)
        with suppress(BlockingIOError):
            while True:
                deaf.send(b'{"do":"list"}\n')
        with client_of(daemon.path, "loop") as client:
            assert vcpus_of(client)[0]["instructions_per_second"] > 0


def test_clients_beyond_the_limit_are_told(path: Path) -> None:
    crowd = [socket.socket(socket.AF_UNIX) for _ in range(80)]
    greetings = []
    for connected in crowd:
        connected.connect(str(path))
        greetings.append(json.loads(connected.makefile("rb").readline()))
    for connected in crowd:
        connected.close()
    kinds = [greeting["error"]["kind"] for greeting in greetings if "error" in greeting]
    assert set(kinds) == {"busy"}


def test_another_user_is_refused(path: Path) -> None:
    directory = path.parent
    ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect(sys.argv[1]); "
    ask += "print(s.makefile().readline())"
    for parent in (directory, *directory.parents):
        if parent.owner() == "root" and parent.is_relative_to("/tmp") and parent != Path("/tmp"):
            os.chmod(parent, 0o755)
    os.chmod(path, 0o666)
    try:
        result = subprocess.run(
            [*DROP_ROOT, sys.executable, "-c", ask, str(path)],
            capture_output=True,
            text=True,
            check=True,
        )
    finally:
        os.chmod(path, 0o600)
        os.chmod(directory, 0o700)
    assert json.loads(result.stdout)["error"]["kind"] == "not-allowed"
