"""Fds into a client and out of it."""

import errno
import fcntl
import os
import signal
from collections.abc import Iterator
from pathlib import Path

import pytest

from kvmshim.client import ptrace_ffi
from kvmshim.client.client import Client
from kvmshim.errors import KvmError
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.privilege import needs_root
from tests.unit.kvmshim.client.puppet import SYS_FCNTL, Puppet

SYS_CLOSE = 3
SYS_LSEEK = 8
SYS_MMAP = 9
SYS_RT_SIGPROCMASK = 14
SYS_GETPID = 39
SYS_RECVMSG = 47
SYS_SOCKETPAIR = 53
SYS_TGKILL = 234
SYS_SETRLIMIT = 160
RLIMIT_NOFILE = 7
SIGSYS_BIT = 1 << signal.SIGSYS - 1
RET_KILL_PROCESS = 0x8000_0000
RET_TRAP = 0x0003_0000
RET_ERRNO = 0x0005_0000


@pytest.fixture
def gift() -> Iterator[int]:
    fd = os.memfd_create("gift")
    yield fd
    os.close(fd)


def give(puppet: Puppet, fd: int, *, cloexec: bool = True) -> int:
    """The number as the client's call returned it."""
    tid = puppet.enter_request()
    number = Client.of_thread(tid).give_fd(tid, fd, puppet.release, cloexec=cloexec)
    assert puppet.result() == number
    return number


def link(puppet: Puppet, number: int) -> str:
    return os.readlink(f"/proc/{puppet.pid}/fd/{number}")


def open_fds(puppet: Puppet) -> list[str]:
    return sorted(os.listdir(f"/proc/{puppet.pid}/fd"))


def lowest_free(puppet: Puppet) -> int:
    number = puppet.call(SYS_FCNTL, 0, fcntl.F_DUPFD, 0)
    puppet.call(SYS_CLOSE, number)
    return number


def test_given_fd_is_the_result_of_the_call(puppet: Puppet, gift: int) -> None:
    assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


def test_static_program_gets_an_fd(static_program: Path, gift: int) -> None:
    with puppets.running(static_program) as puppet:
        assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


def test_given_fd_has_the_lowest_free_number(puppet: Puppet, gift: int) -> None:
    free = lowest_free(puppet)
    assert give(puppet, gift) == free


def test_giving_leaves_nothing_else_in_the_client(puppet: Puppet, gift: int) -> None:
    give(puppet, gift)
    fds = open_fds(puppet)
    maps = Path(f"/proc/{puppet.pid}/maps").read_text()
    number = give(puppet, gift)
    assert open_fds(puppet) == sorted([*fds, str(number)])
    assert Path(f"/proc/{puppet.pid}/maps").read_text() == maps


@pytest.mark.parametrize("cloexec", [True, False])
def test_close_on_exec_is_as_asked(puppet: Puppet, gift: int, *, cloexec: bool) -> None:
    number = give(puppet, gift, cloexec=cloexec)
    assert puppet.call(SYS_FCNTL, number, fcntl.F_GETFD) == int(cloexec)


def test_gift_is_the_same_open_file(puppet: Puppet, gift: int) -> None:
    number = give(puppet, gift)
    os.write(gift, b"abcd")
    assert puppet.call(SYS_LSEEK, number, 0, os.SEEK_CUR) == 4


def test_thread_other_than_the_first_gets_an_fd(puppet: Puppet, gift: int) -> None:
    tid = puppet.start(puppets.SYS_READ, 5, puppet.scratch, 8)
    number = Client.of_thread(tid).give_fd(tid, gift, puppet.release)
    assert puppet.join(tid) == number
    assert link(puppet, number) == "/memfd:gift (deleted)"


def test_other_threads_run_on_while_an_fd_is_given(puppet: Puppet, gift: int) -> None:
    word = puppet.map(4096)
    counter = puppet.ask("count", word)
    give(puppet, gift)
    assert puppet.ask("stop", counter) > 0


@needs_root
def test_client_under_a_filter_gets_an_fd(puppet: Puppet, gift: int) -> None:
    assert puppet.ask("filter", RET_KILL_PROCESS) == 0
    assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


@needs_root
def test_filter_is_in_force_again_afterwards(puppet: Puppet, gift: int) -> None:
    puppet.ask("filter", RET_KILL_PROCESS)
    give(puppet, gift)
    with pytest.raises(EOFError):
        puppet.call(SYS_GETPID)


@pytest.fixture
def unsuspendable(monkeypatch: pytest.MonkeyPatch) -> None:
    """As for a server without CAP_SYS_ADMIN, or under a filter of its own."""
    set_options = ptrace_ffi.set_options

    def unprivileged(tid: int, options: int) -> None:
        if options & ptrace_ffi.PTRACE_O_SUSPEND_SECCOMP:
            raise PermissionError(errno.EPERM, "no CAP_SYS_ADMIN")
        set_options(tid, options)

    monkeypatch.setattr(ptrace_ffi, "set_options", unprivileged)


@pytest.mark.usefixtures("unsuspendable")
def test_client_under_a_filter_that_allows_it_gets_an_fd(puppet: Puppet, gift: int) -> None:
    assert puppet.ask("refuse", RET_KILL_PROCESS, SYS_GETPID) == 0
    assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


@pytest.mark.usefixtures("unsuspendable")
@pytest.mark.parametrize("number", [SYS_SOCKETPAIR, SYS_RECVMSG])
def test_filter_that_traps_a_call_makes_it_eperm(puppet: Puppet, gift: int, number: int) -> None:
    puppet.ask("handle", signal.SIGSYS)
    fds = open_fds(puppet)
    puppet.ask("refuse", RET_TRAP, number)
    puppet.enter_request()
    with pytest.raises(KvmError) as caught:
        Client.of_thread(puppet.pid).give_fd(puppet.pid, gift, puppet.release)
    assert caught.value.errno == errno.EPERM
    assert puppet.result() == -errno.EPERM
    assert open_fds(puppet) == fds
    assert puppet.peek(puppet.handled) == 0
    puppet.call(number)
    assert puppet.peek(puppet.handled) == 1, "the client's own calls reach its own handler"


@pytest.mark.usefixtures("unsuspendable")
def test_filter_that_traps_mmap_leaves_the_stack(puppet: Puppet, gift: int) -> None:
    puppet.ask("refuse", RET_TRAP, SYS_MMAP)
    assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


@pytest.mark.usefixtures("unsuspendable")
def test_filter_that_refuses_a_call_gives_its_errno(puppet: Puppet, gift: int) -> None:
    puppet.ask("refuse", RET_ERRNO | errno.ENOSYS, SYS_SOCKETPAIR)
    puppet.enter_request()
    with pytest.raises(KvmError) as caught:
        Client.of_thread(puppet.pid).give_fd(puppet.pid, gift, puppet.release)
    assert caught.value.errno == errno.ENOSYS
    assert puppet.result() == -errno.ENOSYS


@pytest.mark.usefixtures("unsuspendable")
def test_signal_that_is_not_the_filters_reaches_the_client(puppet: Puppet, gift: int) -> None:
    puppet.ask("handle", signal.SIGSYS)
    puppet.ask("refuse", RET_KILL_PROCESS, SYS_GETPID)
    puppet.call(SYS_RT_SIGPROCMASK, signal.SIG_BLOCK, word_with(puppet, SIGSYS_BIT), 0, 8)
    puppet.call(SYS_TGKILL, puppet.pid, puppet.pid, signal.SIGSYS)
    give(puppet, gift)
    assert puppet.peek(puppet.handled) == 0
    puppet.call(SYS_RT_SIGPROCMASK, signal.SIG_UNBLOCK, word_with(puppet, SIGSYS_BIT), 0, 8)
    assert puppet.peek(puppet.handled) == 1


def word_with(puppet: Puppet, value: int) -> int:
    """Where the client has it."""
    puppet.poke(puppet.scratch, value)
    return puppet.scratch


def test_full_table_gives_emfile_to_both(puppet: Puppet, gift: int) -> None:
    fds = open_fds(puppet)
    limit = lowest_free(puppet).to_bytes(8, "little") * 2
    Client.of_thread(puppet.pid).copy_out(puppet.scratch, limit)
    assert puppet.call(SYS_SETRLIMIT, RLIMIT_NOFILE, puppet.scratch) == 0
    tid = puppet.enter_request()
    with pytest.raises(KvmError) as caught:
        Client.of_thread(tid).give_fd(tid, gift, puppet.release)
    assert caught.value.errno == errno.EMFILE
    assert puppet.result() == -errno.EMFILE
    assert open_fds(puppet) == fds


@needs_root
def test_client_of_another_user_gets_an_fd_from_root(program: Path, gift: int) -> None:
    with puppets.running(program, uid=65534) as puppet:
        assert link(puppet, give(puppet, gift)) == "/memfd:gift (deleted)"


def test_taken_fd_is_the_clients_file(puppet: Puppet, client: Client, gift: int) -> None:
    number = give(puppet, gift)
    os.write(gift, b"xyz")
    mine = client.take_fd(number)
    assert os.pread(mine, 3, 0) == b"xyz"
    assert not os.get_inheritable(mine)
    os.close(mine)


def test_taking_a_closed_fd_is_ebadf(client: Client) -> None:
    with pytest.raises(KvmError) as caught:
        client.take_fd(999)
    assert caught.value.errno == errno.EBADF
