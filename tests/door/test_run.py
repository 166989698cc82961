"""`kvmshim run`: a command with a `/dev/kvm` of its own, served by the stand-in."""

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest

from tests.cli.environment import COVERED_WITH_PUBLIC_FUSE, inside
from tests.deadline import patient
from tests.door.doors import PUBLIC_PYTHON, STAND_IN, client_argv, environment
from tests.door.numbers import BROKEN
from tests.ordinary_user import DROP_ROOT, ORDINARY_USER, needs_user_namespaces

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(not os.access("/dev/fuse", os.W_OK), reason="/dev/fuse is needed"),
]

LIMIT_S = 60


def run(*command: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*STAND_IN, "run", "--", *command],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )


def run_client_in(*prefix: str | Path, script: str) -> dict[str, Any]:
    """What a client saw that looks for `/dev/kvm` under `prefix... kvmshim run`."""
    done = subprocess.run(
        [*prefix, PUBLIC_PYTHON, *STAND_IN[1:], "run", *client_argv(script, "/dev/kvm")],
        env=environment(),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    facts: dict[str, Any] = json.loads(done.stdout)
    return facts


def test_command_finds_a_device_of_ours() -> None:
    facts = run_client_in(
        script="""
fd = os.open(path, os.O_RDWR)
vm = fcntl.ioctl(fd, Number.NEW_VM)
tell(answer=fcntl.ioctl(fd, Number.ANSWER), kind=fcntl.ioctl(vm, Number.KIND))
"""
    )
    assert facts == {"answer": 12, "kind": 1}


def test_nobody_else_sees_it() -> None:
    before = Path("/proc/self/mountinfo").read_text()
    with subprocess.Popen(
        [*STAND_IN, "run", "sh", "-c", "echo ready; read line"],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        during = Path("/proc/self/mountinfo").read_text()
        process.communicate("\n")
    assert during == before
    assert process.returncode == 0


@pytest.mark.parametrize("status", [0, 1, 125, 255])
def test_exit_status_is_the_commands(status: int) -> None:
    assert run("sh", "-c", f"exit {status}").returncode == status


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGKILL, signal.SIGABRT])
def test_signal_that_ends_the_command_ends_kvmshim(number: signal.Signals) -> None:
    assert run("sh", "-c", f"kill -{number.value} $$").returncode == -number


@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGQUIT, signal.SIGUSR1]
)
def test_signal_from_a_process_is_passed_on(number: signal.Signals) -> None:
    script = f"trap 'echo got; exit 9' {number.value}; echo ready; while :; do read x; done"
    # A shell cannot trap what was ignored when it began, as by nohup(1).
    with subprocess.Popen(
        ["env", "--default-signal", *STAND_IN, "run", "bash", "-c", script],
        env=environment(),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(number)
        assert process.stdout.readline() == "got\n"
        assert process.wait() == 9


def test_command_that_is_missing() -> None:
    done = run("/nowhere/at/all", "-x")
    assert done.returncode == 127
    assert done.stderr == "kvmshim: /nowhere/at/all: No such file or directory\n"


def test_command_that_is_not_executable(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert run(str(tmp_path / "file")).returncode == 126


def test_arguments_reach_the_command_as_they_are() -> None:
    done = run("printf", "%s\\n", "-h", "--", "a b", "--help")
    assert done.stdout == "-h\n--\na b\n--help\n"


def test_command_has_the_signals_of_a_fresh_process() -> None:
    status = signal_masks(run("cat", "/proc/self/status").stdout)
    assert status["SigBlk"] == 0
    # What our own parent ignored stays ignored through every exec; Python adds two of its own.
    inherited = signal_masks(Path("/proc/self/status").read_text())["SigIgn"]
    assert status["SigIgn"] == inherited & ~(mask_of(signal.SIGPIPE) | mask_of(signal.SIGXFSZ))


def signal_masks(status: str) -> dict[str, int]:
    """The masks of /proc/PID/status by name."""
    lines = (line.split(":\t") for line in status.splitlines() if line.startswith("Sig"))
    return {name: int(value, 16) for name, value in lines if name != "SigQ"}


def mask_of(number: int) -> int:
    """The bit of a signal."""
    return 1 << number - 1


def test_command_inherits_no_descriptor_of_ours() -> None:
    done = run("readlink", "-f", *(f"/proc/self/fd/{fd}" for fd in range(3, 20)))
    assert "fuse" not in done.stdout
    assert "socket" not in done.stdout


@needs_user_namespaces
def test_ordinary_user_gets_a_device_in_a_user_namespace() -> None:
    facts = run_client_in(
        *inside(COVERED_WITH_PUBLIC_FUSE, DROP_ROOT),
        script="""
fd = os.open(path, os.O_RDWR)
vm = fcntl.ioctl(fd, Number.NEW_VM)
vcpu = fcntl.ioctl(vm, Number.NEW_VCPU, 0)
tell(ids=[os.getuid(), os.getgid()], owner=os.stat(path).st_uid,
     mark=bytes(mmap.mmap(vcpu, RUN_SIZE)[:len(RUN_MARK)]) == RUN_MARK)
""",
    )
    user = ORDINARY_USER
    assert facts == {"ids": [user, user], "owner": user, "mark": True}


def test_dev_without_a_kvm_gets_one_and_keeps_the_rest(tmp_path: Path) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root to make another /dev")
    empty = tmp_path / "dev"
    script = (
        f"mkdir {empty} && mount -t tmpfs none {empty} && cd {empty} && touch null fuse && "
        "mount --bind /dev/null null && mount --bind /dev/fuse fuse && ln -s null link && "
        'mkdir folder && touch folder/file && mount --rbind . /dev && cd / && exec "$@"'
    )
    facts = run_client_in(
        *["unshare", "--mount", "sh", "-c", script, "sh"],
        script="""
fd = os.open(path, os.O_RDWR)
tell(answer=fcntl.ioctl(fd, Number.ANSWER), names=sorted(os.listdir("/dev")),
     link=os.readlink("/dev/link"), folder=os.listdir("/dev/folder"),
     written=os.write(os.open("/dev/null", os.O_WRONLY), b"x"))
""",
    )
    assert facts == {
        "answer": 12,
        "names": ["folder", "fuse", "kvm", "link", "null"],
        "link": "null",
        "folder": ["file"],
        "written": 1,
    }


def test_killed_server_leaves_no_helper_and_its_command_an_error() -> None:
    script = """
fd = os.open(path, os.O_RDWR)
server = os.getppid()
os.kill(server, signal.SIGKILL)
while os.getppid() == server: os.sched_yield()
while not (e := errno_of(fcntl.ioctl, fd, Number.ANSWER)): os.sched_yield()
tell(e=e)
"""
    with subprocess.Popen(
        [*STAND_IN, "run", *client_argv(script, "/dev/kvm")],
        env=environment(),
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        told, _ = process.communicate()
    assert process.returncode == -signal.SIGKILL
    assert json.loads(told)["e"] in (107, 103)


def test_ends_without_its_command_where_it_cannot_serve() -> None:
    done = subprocess.run(
        [*STAND_IN, "run", "echo", "started"],
        env=environment(**{BROKEN: "no engine"}),
        capture_output=True,
        text=True,
        check=False,
        timeout=patient(LIMIT_S),
    )
    assert (done.returncode, done.stdout, done.stderr) == (125, "", "kvmshim: no engine\n")
