"""The CUSE door, in user-mode Linux: this machine's kernel may have no CUSE.

The scripts run as root inside the throw-away machine, which begins without any /dev/kvm.
"""

import errno
import json
import sys
from typing import Any

import pytest

from tests.door.doors import CLIENT_PREAMBLE, STAND_IN, environment
from tests.uml import needs_uml
from tools.uml.machine import run

pytestmark = [pytest.mark.slow, needs_uml]

MACHINE_SECONDS = 50

SERVE = f"""
import stat, subprocess
path = "/dev/kvm"
def serve(*options):
    server = subprocess.Popen({[*STAND_IN, "serve", "--cuse"]!r} + list(options),
                              stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    return server, server.stdout.readline()
"""


def inside(script: str) -> dict[str, Any]:
    """What a script told in the machine."""
    argv = [sys.executable, "-c", CLIENT_PREAMBLE + SERVE + script, "/dev/kvm"]
    outcome = run(argv, timeout_s=MACHINE_SECONDS, environment=environment())
    assert outcome.status == 0, outcome.stderr.decode()
    facts: dict[str, Any] = json.loads(outcome.stdout)
    return facts


def test_device_answers_gives_files_and_goes_with_its_server() -> None:
    facts = inside(
        """
server, ready = serve("--mode", "640")
node = os.stat(path)
system = os.open(path, os.O_RDWR)
vm = fcntl.ioctl(system, Number.NEW_VM)
vcpu = fcntl.ioctl(vm, Number.NEW_VCPU, 0)
pages = mmap.mmap(vcpu, RUN_SIZE)
told = dict(ready=ready, device=stat.S_ISCHR(node.st_mode), mode=stat.S_IMODE(node.st_mode),
            echo=fcntl.ioctl(system, Number.ECHO, 99),
            kinds=[fcntl.ioctl(fd, Number.KIND) for fd in (system, vm, vcpu)],
            mark=bytes(pages[:len(RUN_MARK)]) == RUN_MARK)
server.terminate()
tell(**told, status=server.wait(), node=os.path.lexists(path),
     after=errno_of(fcntl.ioctl, system, Number.ANSWER))
"""
    )
    assert facts == {
        "ready": "kvmshim: serving /dev/kvm (CUSE)\n",
        "device": True,
        "mode": 0o640,
        "echo": 99,
        "kinds": [0, 1, 2],
        "mark": True,
        "status": 0,
        "node": False,
        "after": errno.ENOTCONN,
    }


def test_number_with_size_and_direction_copies_nothing_by_itself() -> None:
    facts = inside(
        """
server, _ = serve()
system = os.open(path, os.O_RDWR)
number = (3 << 30) | (64 << 16) | 0xAEFF
tell(e=errno_of(fcntl.ioctl, system, number, 1))
server.kill()
"""
    )
    assert facts == {"e": errno.EINVAL}


def test_name_is_chosen_and_a_taken_one_refused() -> None:
    facts = inside(
        """
os.mknod("/dev/kvm", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
refused, nothing = serve()
status, said = refused.wait(), refused.stderr.read()
server, ready = serve("--name", "kvm2")
tell(status=status, nothing=nothing, said=said, ready=ready,
     answer=fcntl.ioctl(os.open("/dev/kvm2", os.O_RDWR), Number.ANSWER))
server.kill()
"""
    )
    assert facts["status"] == 125
    assert facts["nothing"] == ""
    assert "/dev/kvm exists" in facts["said"]
    assert facts["ready"] == "kvmshim: serving /dev/kvm2 (CUSE)\n"
    assert facts["answer"] == 12


def test_killed_server_leaves_no_node_and_the_next_one_serves() -> None:
    facts = inside(
        """
first, _ = serve()
blocked = os.open(path, os.O_RDWR)
threading.Timer(0, first.kill).start()
e = errno_of(fcntl.ioctl, blocked, Number.BLOCK)
first.wait()
node = os.path.lexists(path)
os.close(blocked)
second, ready = serve()
tell(e=e, node=node, ready=ready,
     answer=fcntl.ioctl(os.open(path, os.O_RDWR), Number.ANSWER))
second.kill()
"""
    )
    assert facts["e"] in (errno.ECONNABORTED, errno.ENOTCONN, errno.EIO)
    assert facts["node"] is False
    assert facts["ready"] == "kvmshim: serving /dev/kvm (CUSE)\n"
    assert facts["answer"] == 12


def test_dev_that_is_not_devtmpfs_gets_a_node_and_loses_it_again() -> None:
    facts = inside(
        """
numbers = {name: os.stat("/dev/" + name).st_rdev for name in ("null", "cuse", "fuse")}
subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/dev"], check=True)
for name, number in numbers.items():
    os.mknod("/dev/" + name, 0o600 | stat.S_IFCHR, number)
server, _ = serve()
told = dict(answer=fcntl.ioctl(os.open(path, os.O_RDWR), Number.ANSWER))
server.terminate()
server.wait()
told["stopped"] = os.path.lexists(path)
killed, _ = serve()
killed.kill()
killed.wait()
while os.path.lexists(path):
    os.sched_yield()
os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(252, 77))
last, ready = serve()
tell(**told, ready=ready)
last.kill()
"""
    )
    assert facts == {
        "answer": 12,
        "stopped": False,
        "ready": "kvmshim: serving /dev/kvm (CUSE)\n",
    }
