"""A child process that makes the system calls it is told to; see puppet.c for the commands."""

import fcntl
import os
import select
import signal
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Final

from tests.deadline import patient

SOURCE: Final = Path(__file__).with_name("puppet.c")
DEADLINE_SECONDS: Final = patient(20)
FIRST_FREE: Final = 6
"""The first descriptor that a new puppet has no use for."""

SYS_READ: Final = 0
SYS_MMAP: Final = 9
SYS_MPROTECT: Final = 10
SYS_MUNMAP: Final = 11
SYS_MADVISE: Final = 28
SYS_FCNTL: Final = 72

PROT_NONE: Final = 0
PROT_READ: Final = 1
PROT_RW: Final = 3
PRIVATE: Final = 0x22  # MAP_PRIVATE | MAP_ANONYMOUS
SHARED: Final = 0x21
FIXED: Final = 0x10


def build(directory: Path, *, static: bool) -> Path:
    """Compiles the program."""
    program = directory / ("puppet-static" if static else "puppet")
    link = ["-static"] if static else []
    subprocess.run(
        ["gcc", "-O2", "-Wall", "-Werror", "-pthread", *link, "-o", str(program), str(SOURCE)],
        check=True,
    )
    return program


class Pipes:
    """One end of a conversation: a line out, a line back."""

    def __init__(self) -> None:
        self.their_input, self._commands = os.pipe2(os.O_CLOEXEC)
        self._answers, self.their_output = os.pipe2(os.O_CLOEXEC)
        self._rest = b""

    def send(self, *words: object) -> None:
        os.write(self._commands, " ".join(map(str, words)).encode() + b"\n")

    def receive(self) -> tuple[int, int]:
        """The two numbers of an answer. EOFError: the process is gone."""
        while b"\n" not in self._rest:
            ready, _, _ = select.select([self._answers], [], [], DEADLINE_SECONDS)
            data = os.read(self._answers, 64) if ready else b""
            if not data:
                raise EOFError("no answer")
            self._rest += data
        line, self._rest = self._rest.split(b"\n", 1)
        first, second = line.split()
        return int(first), int(second)

    def close_theirs(self) -> None:
        os.close(self.their_input)
        os.close(self.their_output)

    def close(self) -> None:
        os.close(self._commands)
        os.close(self._answers)


class Conversation:
    """Commands to one process."""

    def __init__(self, pipes: Pipes) -> None:
        self._pipes = pipes

    def ask(self, *words: object) -> int:
        self._pipes.send(*words)
        return self._pipes.receive()[0]

    def receive(self) -> int:
        """An answer that is still due."""
        return self._pipes.receive()[0]

    def call(self, number: int, *arguments: int) -> int:
        """The raw result of a system call of its main thread."""
        return self.ask("call", number, *arguments)

    def start(self, number: int, *arguments: int) -> int:
        """A thread that is now blocked in a system call; its tid."""
        tid = self.ask("thread", number, *arguments)
        wait_blocked(tid, number)
        return tid

    def join(self, tid: int) -> int:
        return self.ask("join", tid)

    def map(self, size: int, protection: int = PROT_RW, flags: int = PRIVATE, at: int = 0) -> int:
        address = self.call(SYS_MMAP, at, size, protection, flags, -1, 0)
        assert address > 0
        return address

    def peek(self, address: int) -> int:
        return self.ask("peek", address)

    def poke(self, address: int, value: int) -> None:
        self.ask("poke", address, value)


class Puppet(Conversation):
    """A child process. Its fd 5 is a pipe: its main thread can wait there for `release`."""

    def __init__(self, program: Path, *, uid: int | None = None) -> None:
        pipes, fork = Pipes(), Pipes()
        gate, self._gate = os.pipe2(os.O_CLOEXEC)
        given = [pipes.their_input, pipes.their_output, fork.their_input, fork.their_output, gate]
        self.pid = os.fork()
        if self.pid == 0:
            _become(program, given, uid)
        for end in (pipes, fork):
            end.close_theirs()
        os.close(gate)
        super().__init__(pipes)
        self.forked = Conversation(fork)
        """Its child, after `ask("child")`; it says its pid there first."""
        self._fork = fork
        self.pidfd = os.pidfd_open(self.pid)
        self._status: int | None = None
        self.scratch, self.handled = self.where()

    def where(self) -> tuple[int, int]:
        self._pipes.send("where")
        return self._pipes.receive()

    def enter_request(self) -> int:
        """Lets the main thread wait as if in a request of ours; its tid."""
        self._pipes.send("call", SYS_READ, 5, self.scratch, 8)
        wait_blocked(self.pid, SYS_READ, 5)  # not that of a command
        return self.pid

    def release(self) -> None:
        """What ends the wait, with 8; nothing if it is dead."""
        with suppress(BrokenPipeError):
            os.write(self._gate, bytes(8))

    def result(self) -> int:
        """What the request returned."""
        return self.receive()

    def kill(self) -> None:
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def wait_end(self) -> int:
        """Its wait status. Not by waitpid alone: that would take its tracer's notices."""
        poll = select.poll()
        poll.register(self.pidfd, select.POLLIN)
        assert poll.poll(DEADLINE_SECONDS * 1000), "the puppet lives on"
        if self._status is None:
            self._status = os.waitpid(self.pid, 0)[1]
        return self._status

    def close(self) -> None:
        self._pipes.close()
        self._fork.close()
        os.close(self._gate)
        os.close(self.pidfd)


def _become(program: Path, given: list[int], uid: int | None) -> None:
    # Out of the way of the numbers they are going to have, and of each other.
    high = [fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, FIRST_FREE) for fd in given]
    for number, fd in zip((0, 1, 3, 4, 5), high, strict=True):
        os.dup2(fd, number)
    if uid is not None:
        os.setgroups([])
        os.setresgid(uid, uid, uid)
        os.setresuid(uid, uid, uid)
    os.execv(program, [str(program)])


def wait_blocked(tid: int, number: int, *arguments: int) -> None:
    """Returns when the thread sleeps in a system call with these first arguments."""
    wanted = [str(number), *map(hex, arguments)]
    end = time.monotonic() + DEADLINE_SECONDS
    while Path(f"/proc/{tid}/syscall").read_text().split()[: len(wanted)] != wanted:
        assert time.monotonic() < end, "the thread does not get there"


@contextmanager
def running(program: Path, *, uid: int | None = None) -> Iterator[Puppet]:
    """A puppet that is gone afterwards."""
    puppet = Puppet(program, uid=uid)
    try:
        yield puppet
    finally:
        puppet.kill()
        puppet.wait_end()
        puppet.close()
