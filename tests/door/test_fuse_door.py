"""The FUSE door: a file that answers ioctls."""

import errno
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.door.doors import StandIn, run_client, served
from tests.leftovers import mounts_below, processes_of_session, wait_until
from tests.ordinary_user import needs_readable_sources

pytestmark = pytest.mark.slow

OTHER_UID = 12345


def test_ioctl_reaches_the_service_and_its_answer_the_client(door: StandIn) -> None:
    facts = run_client(
        """
fd = os.open(path, os.O_RDWR)
tell(answer=fcntl.ioctl(fd, Number.ANSWER), echo=fcntl.ioctl(fd, Number.ECHO, 0x7fffffff),
     kind=fcntl.ioctl(fd, Number.KIND))
""",
        door.path,
    )
    assert facts == {"answer": 12, "echo": 0x7FFFFFFF, "kind": 0}


def test_caller_is_the_thread_that_called(door: StandIn) -> None:
    facts = run_client(
        """
fd = os.open(path, os.O_RDWR)
seen = []
def call():
    seen.append((fcntl.ioctl(fd, Number.WHO), threading.get_native_id()))
threads = [threading.Thread(target=call) for _ in range(4)]
for thread in threads: thread.start()
for thread in threads: thread.join()
tell(seen=seen)
""",
        door.path,
    )
    assert len(facts["seen"]) == 4
    assert all(answered == own for answered, own in facts["seen"])


def test_unknown_number_is_the_services_to_refuse(door: StandIn) -> None:
    facts = run_client("tell(e=errno_of(fcntl.ioctl, os.open(path, os.O_RDWR), 0xAEFF))", door.path)
    assert facts == {"e": errno.EINVAL}


def test_fault_of_the_service_is_eio_and_logged_once(door: StandIn) -> None:
    facts = run_client(
        """
fd = os.open(path, os.O_RDWR)
tell(errors=[errno_of(fcntl.ioctl, fd, Number.FAULT) for _ in range(3)],
     answer=fcntl.ioctl(fd, Number.ANSWER))
""",
        door.path,
    )
    assert facts == {"errors": [errno.EIO] * 3, "answer": 12}
    wait_until(lambda: "the service is at fault" in door.said())
    assert door.said().count("RuntimeError: the service is at fault") == 1


def test_file_can_be_opened_again_and_again(door: StandIn) -> None:
    facts = run_client(
        """
for _ in range(1000):
    os.close(os.open(path, os.O_RDWR))
tell(answer=fcntl.ioctl(os.open(path, os.O_RDWR), Number.ANSWER))
""",
        door.path,
    )
    assert facts == {"answer": 12}


def test_nothing_can_be_written(door: StandIn) -> None:
    facts = run_client("tell(e=errno_of(os.write, os.open(path, os.O_RDWR), b'x'))", door.path)
    assert facts == {"e": errno.EINVAL}


@needs_readable_sources
def test_other_user_cannot_open_it(door: StandIn) -> None:
    facts = run_client(
        "tell(e=errno_of(os.open, path, os.O_RDWR))",
        door.path,
        user=OTHER_UID,
        group=OTHER_UID,
        extra_groups=[],
    )
    assert facts == {"e": errno.EACCES}


@needs_readable_sources
@pytest.mark.parametrize(("group", "expected"), [(OTHER_UID, 0), (OTHER_UID + 1, errno.EACCES)])
def test_group_may_open_it(folder: Path, group: int, expected: int) -> None:
    with served(folder / "kvm", "--group", str(OTHER_UID)) as door:
        facts = run_client(
            "tell(e=errno_of(os.open, path, os.O_RDWR))",
            door.path,
            user=OTHER_UID,
            group=group,
            extra_groups=[],
        )
    assert facts == {"e": expected}


def test_mode_is_the_one_asked_for(folder: Path) -> None:
    with served(folder / "kvm", "--mode", "646") as door:
        mode = os.stat(door.path).st_mode & 0o7777
    assert mode == 0o646


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP])
def test_stop_leaves_nothing(folder: Path, number: signal.Signals) -> None:
    door = StandIn(folder / "kvm")
    helpers = door.children()
    door.signal(number)
    assert door.wait() == 0, door.said()
    assert len(helpers) == 1
    assert not any(Path(f"/proc/{pid}").exists() for pid in helpers)
    assert [*processes_of_session(door.process.pid), *mounts_below(folder)] == []
    assert list(folder.iterdir()) == []


def test_stop_keeps_a_file_that_was_there(folder: Path) -> None:
    (folder / "kvm").write_text("mine")
    assert StandIn(folder / "kvm").stop() == 0
    assert (folder / "kvm").read_text() == "mine"


def test_stop_ends_a_request_that_waits(folder: Path) -> None:
    door = StandIn(folder / "kvm")
    facts = run_client(
        f"""
fd = os.open(path, os.O_RDWR)
threading.Timer(0, os.kill, ({door.process.pid}, signal.SIGTERM)).start()
tell(e=errno_of(fcntl.ioctl, fd, Number.BLOCK))
""",
        door.path,
    )
    assert door.wait() == 0
    assert facts["e"] in (errno.ECONNABORTED, errno.ENOTCONN)


def test_path_of_a_live_server_is_refused(door: StandIn) -> None:
    second = StandIn(door.path)
    assert second.wait() == 125
    assert second.ready_line == ""
    assert f"{door.path} is served by another kvmshim" in second.said()
    facts = run_client("tell(a=fcntl.ioctl(os.open(path, os.O_RDWR), Number.ANSWER))", door.path)
    assert facts == {"a": 12}


@pytest.mark.parametrize("name", ["", "missing/kvm"])
def test_path_that_cannot_hold_a_file_is_refused(folder: Path, name: str) -> None:
    door = StandIn(folder / name)
    assert door.wait() == 125
    assert door.said().startswith("kvmshim: cannot open the FUSE door: ")
    assert "Traceback" not in door.said()


def test_unmount_from_outside_ends_the_server(folder: Path) -> None:
    door = StandIn(folder / "kvm")
    os.system(f"umount {door.path}")
    assert door.wait() == 125
    assert "was taken away from outside" in door.said()
    assert list(folder.iterdir()) == []


def test_service_manager_is_notified_if_it_asks(folder: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(folder / "notify"))
        door = StandIn(folder / "kvm", NOTIFY_SOCKET=str(folder / "notify"))
        assert manager.recv(64) == b"READY=1"
        assert door.stop() == 0


def test_ready_line_names_the_path(door: StandIn) -> None:
    assert door.ready_line == f"kvmshim: serving {door.path} (FUSE)\n"
