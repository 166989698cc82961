"""What the host understands of a guest's console."""

import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tools.guests.console import Console, Deadline, Failed


@contextmanager
def saying(script: str, log: Path) -> Iterator[Console]:
    """The console of a VMM that is a shell script."""
    with subprocess.Popen(
        ["sh", "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        console = Console(process, log)
        try:
            yield console
        finally:
            process.kill()
            console.close()


def test_it_finds_one_thing_behind_the_other_and_keeps_a_log(tmp_path: Path) -> None:
    with saying("echo one two; echo three", tmp_path / "log") as console:
        assert console.wait_for(rb"o(n)e", Deadline(10))[1] == b"n"
        assert console.wait_for(rb"three\n", Deadline(10))
    assert (tmp_path / "log").read_bytes() == b"one two\nthree\n"


def test_it_finds_what_goes_over_several_lines(tmp_path: Path) -> None:
    with saying("echo one; echo; echo 2", tmp_path / "log") as console:
        assert console.wait_for(rb"one\s+(\d)", Deadline(10))[1] == b"2"


def test_what_is_typed_arrives(tmp_path: Path) -> None:
    with saying("read word; echo got $word", tmp_path / "log") as console:
        console.type(b"this\n")
        console.wait_for(rb"got this", Deadline(10))


def test_trouble_before_what_is_waited_for_fails(tmp_path: Path) -> None:
    with (
        saying("echo; echo Kernel panic - not syncing; echo up", tmp_path / "log") as console,
        pytest.raises(Failed, match=r"^Kernel panic - not syncing$"),
    ):
        console.wait_for(rb"up", Deadline(10))


def test_an_end_before_what_is_waited_for_fails(tmp_path: Path) -> None:
    with (
        saying("echo half the", tmp_path / "log") as console,
        pytest.raises(Failed, match="ended behind 'half the'"),
    ):
        console.wait_for(rb"whole", Deadline(10))


def test_silence_fails(tmp_path: Path) -> None:
    with (
        saying("echo begun; read word", tmp_path / "log") as console,
        pytest.raises(Failed, match="not done after 1 s: no 'up' behind 'begun'"),
    ):
        console.wait_for(rb"up", Deadline(1))
