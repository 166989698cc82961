"""A connection to a daemon, whatever is at its other end."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from kvmshim.control import address
from kvmshim.observe import daemon as daemon_module
from kvmshim.observe.daemon import Daemon, ObserveError, daemons

_GREETING = b'{"kvmshim":1,"pid":7,"label":"a stand-in"}\n'
Says = Callable[[socket.socket], object]


@contextmanager
def stand_in(path: Path, says: Says) -> Iterator[None]:
    """Somebody who listens, says something to the first client, and hangs up."""
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(path))
        listener.listen()

        def serve() -> None:
            client, _ = listener.accept()
            with client:
                says(client)

        thread = threading.Thread(target=serve)
        thread.start()
        yield
        thread.join()


def after_request(*parts: bytes) -> Says:
    """Greets, and answers a request with this."""

    def say(client: socket.socket) -> None:
        client.sendall(_GREETING)
        if client.recv(4096):
            client.sendall(b"".join(parts))

    return say


def test_answers_come_one_after_the_other(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    answers = [b'{"answer":{"n":%d}}\n' % number for number in range(3)]
    with stand_in(path, after_request(*answers)), Daemon(path) as daemon:
        listened = daemon.listen("trace")
        assert [next(listened)["n"] for _ in range(3)] == [0, 1, 2]
        assert (daemon.pid, daemon.label) == (7, "a stand-in")


def test_only_the_first_answer_must_come_soon(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    answers = [b'{"answer":{}}\n', b'{"answer":{}}\n']
    with stand_in(path, after_request(*answers)), Daemon(path) as daemon:
        listened = daemon.listen("trace")
        next(listened)
        assert daemon.patience is not None
        next(listened)
        assert daemon.patience is None


def test_who_does_not_answer_is_given_up(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(daemon_module, "_TIMEOUT_SECONDS", 0.05)
    path, done = tmp_path / "socket", threading.Event()

    def say(client: socket.socket) -> None:
        client.sendall(_GREETING)
        done.wait()

    with stand_in(path, say), Daemon(path) as daemon:
        with pytest.raises(ObserveError, match="does not answer"):
            daemon.ask("list")
        done.set()


@pytest.mark.parametrize(
    ("greeting", "remedy"),
    [
        (b'{"kvmshim":99,"pid":7,"label":""}\n', "speaks version 99"),
        (b'{"error":{"kind":"busy","message":"too many clients"}}\n', "too many clients"),
        (b"SSH-2.0\n", "not JSON"),
        (b"[]\n", "not a JSON object"),
        (b"", "has hung up"),
    ],
)
def test_who_is_no_daemon_of_this_version_is_refused(
    tmp_path: Path, greeting: bytes, remedy: str
) -> None:
    path = tmp_path / "socket"
    with (
        stand_in(path, lambda client: client.sendall(greeting)),
        pytest.raises(ObserveError, match=remedy),
    ):
        Daemon(path)


def test_an_error_is_a_sentence(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    refusal = b'{"id":null,"error":{"kind":"no-vm","message":"there is no VM"}}\n'
    with (
        stand_in(path, after_request(refusal)),
        Daemon(path) as daemon,
        pytest.raises(ObserveError, match=r"^there is no VM$"),
    ):
        daemon.ask("vm", vm="x")


def test_who_hangs_up_is_told_of(tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with (
        stand_in(path, after_request()),
        Daemon(path) as daemon,
        pytest.raises(ObserveError, match="may have ended"),
    ):
        daemon.ask("list")


def test_who_does_not_answer_is_left_out_of_the_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(daemon_module, "_TIMEOUT_SECONDS", 0.05)
    monkeypatch.setenv(address.VARIABLE, str(tmp_path))
    silent, done = tmp_path / "1.sock", threading.Event()
    with stand_in(silent, lambda _: bool(done.wait())):
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(tmp_path / "2.sock"))
        assert list(daemons()) == []
        done.set()
    assert caplog.messages == [f"{silent}: the daemon does not answer; is it stopped?"]
