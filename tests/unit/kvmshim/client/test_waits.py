"""Threads stopped inside a system call go on as if nothing had happened."""

import errno
import signal
import struct

import pytest

from kvmshim.client.client import Client
from kvmshim.client.threads import nobody
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.puppet import SYS_READ, Puppet
from tests.unit.kvmshim.client.sharing import PAGE, pipe, share

SYS_WRITE = 1
SYS_POLL = 7
SYS_NANOSLEEP = 35
SYS_GETPID = 39
SYS_SIGTIMEDWAIT = 128
SYS_FUTEX = 202
SYS_EPOLL_WAIT = 232
SYS_TGKILL = 234
SYS_PPOLL = 271
SYS_EPOLL_CREATE1 = 291
FUTEX_WAIT = 0
FUTEX_WAKE = 1


@pytest.fixture
def timeout(puppet: Puppet) -> int:
    """Address of a `struct timespec` of 50 ms."""
    Client.of_thread(puppet.pid).copy_out(puppet.scratch + 64, struct.pack("<QQ", 0, 50_000_000))
    return puppet.scratch + 64


def share_some(puppet: Puppet) -> None:
    share(puppet, puppet.map(PAGE), PAGE)


def test_nanosleep_goes_on(puppet: Puppet, timeout: int) -> None:
    tid = puppet.start(SYS_NANOSLEEP, timeout, 0)
    share_some(puppet)
    assert puppet.join(tid) == 0


def test_epoll_wait_goes_on_to_its_timeout(puppet: Puppet) -> None:
    epoll = puppet.call(SYS_EPOLL_CREATE1, 0)
    tid = puppet.start(SYS_EPOLL_WAIT, epoll, puppet.scratch + 128, 1, 50)
    share_some(puppet)
    assert puppet.join(tid) == 0


def test_poll_goes_on_to_its_timeout(puppet: Puppet) -> None:
    tid = puppet.start(SYS_POLL, 0, 0, 50)
    share_some(puppet)
    assert puppet.join(tid) == 0


def test_ppoll_with_a_mask_goes_on_to_its_timeout(puppet: Puppet, timeout: int) -> None:
    mask = puppet.scratch + 256
    Client.of_thread(puppet.pid).copy_out(mask, struct.pack("<Q", 1 << signal.SIGUSR1 - 1))
    tid = puppet.start(SYS_PPOLL, 0, 0, timeout, mask, 8)
    share_some(puppet)
    assert puppet.join(tid) == 0


def test_sigtimedwait_goes_on_to_its_timeout(puppet: Puppet, timeout: int) -> None:
    mask = puppet.scratch + 256
    Client.of_thread(puppet.pid).copy_out(mask, struct.pack("<Q", 1 << signal.SIGUSR2 - 1))
    tid = puppet.start(SYS_SIGTIMEDWAIT, mask, 0, timeout, 8)
    share_some(puppet)
    assert puppet.join(tid) == -errno.EAGAIN


def test_futex_wait_goes_on_until_it_is_woken(puppet: Puppet) -> None:
    word = puppet.scratch + 512
    tid = puppet.start(SYS_FUTEX, word, FUTEX_WAIT, 0, 0)
    share_some(puppet)
    while puppet.call(SYS_FUTEX, word, FUTEX_WAKE, 1) == 0:
        puppets.wait_blocked(tid, SYS_FUTEX)
    assert puppet.join(tid) == 0


def test_futex_wait_with_timeout_goes_on_to_it(puppet: Puppet, timeout: int) -> None:
    tid = puppet.start(SYS_FUTEX, puppet.scratch + 512, FUTEX_WAIT, 0, timeout)
    share_some(puppet)
    assert puppet.join(tid) == -errno.ETIMEDOUT


def test_read_goes_on_until_there_is_something(puppet: Puppet) -> None:
    ours, theirs = pipe(puppet)
    tid = puppet.start(SYS_READ, ours, puppet.scratch + 64, 3)
    share_some(puppet)
    puppet.call(SYS_WRITE, theirs, puppet.scratch, 3)
    assert puppet.join(tid) == 3


def test_signal_still_interrupts_a_wait_afterwards(puppet: Puppet) -> None:
    puppet.ask("handle", signal.SIGUSR1)
    epoll = puppet.call(SYS_EPOLL_CREATE1, 0)
    tid = puppet.start(SYS_EPOLL_WAIT, epoll, puppet.scratch + 128, 1, -1)
    share_some(puppet)
    puppets.wait_blocked(tid, SYS_EPOLL_WAIT)
    puppet.call(SYS_TGKILL, puppet.pid, tid, signal.SIGUSR1)
    assert puppet.join(tid) == -errno.EINTR
    assert puppet.peek(puppet.handled) == 1


def test_signal_that_came_meanwhile_is_delivered_afterwards(puppet: Puppet) -> None:
    puppet.ask("handle", signal.SIGUSR1)
    tid = puppet.enter_request()
    with Client.of_thread(tid).stop_caller(tid, puppet.release) as caller:
        signal.pidfd_send_signal(puppet.pidfd, signal.SIGUSR1)
        assert caller.call(SYS_GETPID) == puppet.pid
        caller.share(puppet.scratch, PAGE, in_flight=nobody)
        caller.finish(17)
    assert puppet.result() == 17
    assert puppet.peek(puppet.handled) == 1
