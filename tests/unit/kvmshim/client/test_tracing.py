"""Deaths at every step on both sides, other tracers, and who a client is."""

import errno
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from kvmshim.client import ptrace_ffi
from kvmshim.client.client import Client, Clients
from kvmshim.client.threads import nobody
from kvmshim.errors import KvmError
from tests.unit.kvmshim.client import puppet as puppets
from tests.unit.kvmshim.client.privilege import needs_root
from tests.unit.kvmshim.client.puppet import Puppet

PAGE = 4096
STEPS = (
    "seize",
    "interrupt",
    "detach",
    "set_options",
    "resume_to_system_call",
    "get_registers",
    "set_registers",
    "set_signal_mask",
    "read_memory_into",
    "write_memory",
    "pidfd_getfd",
)


@pytest.fixture
def gift() -> Iterator[int]:
    fd = os.memfd_create("gift")
    yield fd
    os.close(fd)


def before_step(monkeypatch: pytest.MonkeyPatch, count: int, act: Callable[[], None]) -> list[str]:
    """Does `act` before the step number `count`; the names of all steps made, as they are."""
    made: list[str] = []

    def watch(name: str) -> None:
        step = getattr(ptrace_ffi, name)

        def watched(*arguments: object) -> object:
            made.append(name)
            if len(made) == count:
                act()
            return step(*arguments)

        monkeypatch.setattr(ptrace_ffi, name, watched)

    for name in STEPS:
        watch(name)
    return made


def outcome(work: Callable[[], object]) -> int:
    """0 or the errno of its KvmError."""
    try:
        work()
    except KvmError as error:
        return error.errno
    return 0


def give(puppet: Puppet, gift: int) -> Callable[[], object]:
    return lambda: Client.of_thread(puppet.pid).give_fd(puppet.pid, gift, puppet.release)


def share(puppet: Puppet, address: int) -> Callable[[], object]:
    def work() -> None:
        with Client.of_thread(puppet.pid).stop_caller(puppet.pid, puppet.release) as caller:
            caller.share(address, 4 * PAGE, in_flight=nobody)
            caller.finish(0)

    return work


@pytest.mark.parametrize("step", range(1, 90, 3))
def test_client_killed_while_it_gets_an_fd(
    puppet: Puppet, gift: int, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    puppet.enter_request()
    before_step(monkeypatch, step, puppet.kill)
    assert outcome(give(puppet, gift)) in (0, errno.ESRCH)
    puppet.kill()
    assert puppet.wait_end() == signal.SIGKILL


@pytest.mark.parametrize("step", range(1, 120, 4))
def test_client_with_threads_killed_while_its_memory_is_exchanged(
    puppet: Puppet, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    address = puppet.map(4 * PAGE)
    puppet.ask("count", address)
    puppet.ask("count", address + PAGE)
    puppet.enter_request()
    before_step(monkeypatch, step, puppet.kill)
    assert outcome(share(puppet, address)) in (0, errno.ESRCH)
    puppet.kill()
    assert puppet.wait_end() == signal.SIGKILL


def test_the_kills_above_reach_the_last_step(
    puppet: Puppet, gift: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = before_step(monkeypatch, 0, puppet.kill)
    puppet.enter_request()
    give(puppet, gift)()
    assert made[-1] == "detach"
    assert len(made) < 90


def die() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def serve_until(step: int, work: Callable[[], object]) -> int:
    """Does `work` in a server of its own that is killed before a step; its wait status."""
    pid = os.fork()
    if pid == 0:
        with pytest.MonkeyPatch.context() as patch:
            before_step(patch, step, die)
            outcome(work)
        os._exit(0)
    return os.waitpid(pid, 0)[1]


@pytest.mark.parametrize("step", range(1, 90, 3))
def test_client_of_a_server_killed_at_any_step_ends_or_goes_on(
    program: Path, gift: int, step: int
) -> None:
    """Never with foreign registers."""
    with puppets.running(program) as puppet:
        puppet.enter_request()
        serve_until(step, give(puppet, gift))
        try:
            puppet.release()
            result = puppet.result()
        except EOFError:
            assert puppet.wait_end() == signal.SIGKILL
        else:
            assert result == 8 or os.readlink(f"/proc/{puppet.pid}/fd/{result}")
            assert puppet.where() == (puppet.scratch, puppet.handled)


def trace_elsewhere(tid: int) -> tuple[int, int]:
    """(pid of a process that traces `tid`, fd that ends it when closed)."""
    ready, ready_to = os.pipe()
    end, end_to = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(end_to)
        ptrace_ffi.seize(tid, 0)
        os.write(ready_to, b"x")
        os.read(end, 1)
        os._exit(0)
    os.close(end)
    os.close(ready_to)
    assert os.read(ready, 1) == b"x"
    os.close(ready)
    return pid, end_to


def test_client_under_another_tracer_is_eperm_with_a_remedy(puppet: Puppet, gift: int) -> None:
    tid = puppet.enter_request()
    tracer, end = trace_elsewhere(tid)
    with pytest.raises(KvmError, match=r"already traced by process .* `kvmshim run`") as caught:
        Client.of_thread(tid).give_fd(tid, gift, puppet.release)
    assert caught.value.errno == errno.EPERM
    os.close(end)
    os.waitpid(tracer, 0)
    puppet.release()
    assert puppet.result() == 8


def test_refusal_is_logged_once(
    puppet: Puppet, gift: int, caplog: pytest.LogCaptureFixture
) -> None:
    tid = puppet.enter_request()
    tracer, end = trace_elsewhere(tid)
    for _ in range(3):
        outcome(give(puppet, gift))
    os.close(end)
    os.waitpid(tracer, 0)
    assert len(caplog.records) == 1


def test_refused_client_was_not_answered(puppet: Puppet, gift: int) -> None:
    tid = puppet.enter_request()
    tracer, end = trace_elsewhere(tid)
    answered: list[int] = []
    outcome(lambda: Client.of_thread(tid).give_fd(tid, gift, lambda: answered.append(1)))
    os.close(end)
    os.waitpid(tracer, 0)
    assert answered == []


def test_one_traced_thread_is_enough_to_refuse_an_exchange(puppet: Puppet) -> None:
    address = puppet.map(4 * PAGE)
    counter = puppet.ask("count", address)
    tracer, end = trace_elsewhere(counter)
    puppet.enter_request()
    assert outcome(share(puppet, address)) == errno.EPERM
    os.close(end)
    os.waitpid(tracer, 0)
    assert puppet.result() == -errno.EIO
    assert puppet.ask("stop", counter) > 0


def test_client_is_one_object_for_all_its_threads(puppet: Puppet) -> None:
    tid = puppet.start(puppets.SYS_READ, 5, puppet.scratch, 8)
    assert Client.of_thread(tid) is Client.of_thread(puppet.pid)


def test_forked_child_is_another_client(puppet: Puppet) -> None:
    child = puppet.ask("child")
    assert Client.of_thread(child).tgid == child
    assert Client.of_thread(child) is not Client.of_thread(puppet.pid)


def test_client_knows_its_threads_from_others(puppet: Puppet, client: Client) -> None:
    counter = puppet.ask("count", puppet.map(PAGE))
    child = puppet.ask("child")
    theirs = [client.has_thread(tid) for tid in (puppet.pid, counter, child, os.getpid())]
    assert theirs == [True, True, False, False]
    puppet.kill()
    puppet.wait_end()
    assert not client.has_thread(puppet.pid)


def test_own_thread_is_no_client() -> None:
    assert outcome(lambda: Client.of_thread(os.getpid())) == errno.EDEADLK


def test_dead_client_is_noticed(puppet: Puppet, client: Client, gift: int) -> None:
    puppet.kill()
    puppet.wait_end()
    assert not client.alive
    assert outcome(lambda: Client.of_thread(puppet.pid)) == errno.ESRCH
    assert outcome(lambda: client.give_fd(puppet.pid, gift, puppet.release)) == errno.ESRCH


@needs_root
def test_reused_id_is_a_new_client(program: Path) -> None:
    clients = Clients()
    with puppets.running(program) as first:
        old = clients.of_thread(first.pid)
    pid = fork_as(first.pid)
    new = clients.of_thread(pid)
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    assert (new is old, old.alive, new.tgid) == (False, False, pid)


def fork_as(pid: int) -> int:
    """A child that waits for ever, with a process id of our choice."""
    last = Path("/proc/sys/kernel/ns_last_pid")
    while True:
        last.write_text(str(pid - 1))
        child = os.fork()
        if child == 0:
            signal.pause()
        if child == pid:
            return child
        os.kill(child, signal.SIGKILL)
        os.waitpid(child, 0)


def test_stopped_client_stays_stopped(puppet: Puppet, gift: int) -> None:
    """SIGSTOP during a gift: job control sees it afterwards."""
    puppet.enter_request()

    def stop_and_answer() -> None:
        signal.pidfd_send_signal(puppet.pidfd, signal.SIGSTOP)
        puppet.release()

    number = Client.of_thread(puppet.pid).give_fd(puppet.pid, gift, stop_and_answer)
    wait_state(puppet.pid, "T")
    signal.pidfd_send_signal(puppet.pidfd, signal.SIGCONT)
    assert puppet.result() == number


def wait_state(pid: int, state: str) -> None:
    while Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != state:
        pass
