"""The command line's grammar."""

import argparse

import pytest

from kvmshim.abi import profiles
from kvmshim.cli.check import report, run_would_work
from kvmshim.cli.main import parser
from kvmshim.cli.serve import access_of
from kvmshim.device.capabilities import Finding
from kvmshim.device.door import Access


def parsed(*argv: str) -> argparse.Namespace:
    return parser().parse_args(argv)


@pytest.mark.parametrize("separator", [(), ("--",)])
def test_run_takes_a_command_and_leaves_its_options_alone(separator: tuple[str, ...]) -> None:
    arguments = parsed("run", *separator, "cmd", "-h", "--mode", "x")
    assert (arguments.command, arguments.arguments) == ("cmd", ["-h", "--mode", "x"])


@pytest.mark.parametrize(
    "argv",
    [
        ("run",),
        ("serve",),
        ("serve", "--cuse", "--fuse", "x"),
        ("serve", "--fuse", "x", "--mode", "888"),
        ("serve", "--fuse", "x", "--mode", "1000"),
        ("serve", "--fuse", "x", "--mode", "-1"),
        ("serve", "--fuse", "x", "--group", "no such group"),
        ("serve", "--fuse", "x", "--capability", "245"),
        ("serve", "--fuse", "x", "--capability", "x=1"),
        ("serve", "--fuse", "x", "--capability", "1=-1"),
        ("serve", "--fuse", "x", "--capability", "1=0x80000000"),
        ("serve", "--fuse", "x", "--hyperv-name", ""),
        ("serve", "--fuse", "x", "--hyperv-name", "thirteen bytes"),
        ("serve", "--fuse", "x", "--profile", "vsm-v1"),
    ],
)
def test_nonsense_is_refused(argv: tuple[str, ...]) -> None:
    with pytest.raises(SystemExit) as refused:
        parsed(*argv)
    assert refused.value.code == 2


@pytest.mark.parametrize("name", profiles.RESERVED)
def test_a_profile_to_come_is_refused_by_its_name(
    name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parsed("serve", "--fuse", "x", "--profile", name)
    assert f"{name!r} is reserved for a series that is not there yet" in capsys.readouterr().err


def test_group_may_be_a_name() -> None:
    assert parsed("serve", "--cuse", "--group", "root").group == 0


@pytest.mark.parametrize(
    ("mode", "group", "bits"), [(None, None, 0o600), (None, 7, 0o660), (0o640, 7, 0o640)]
)
def test_group_may_use_what_it_was_given(mode: int | None, group: int | None, bits: int) -> None:
    assert access_of(mode, group).mode == bits


def test_owner_alone_may_open_by_default() -> None:
    assert Access().mode == 0o600


def test_missing_cuse_does_not_keep_run_from_working() -> None:
    findings = [
        Finding("FUSE", True, "there"),
        Finding("CUSE", False, "not there", "load it", for_run=False),
    ]
    assert run_would_work(findings)
    assert "load it" in report(findings)


def test_missing_fuse_does() -> None:
    findings = [Finding("FUSE", False, "not there", "load it")]
    assert not run_would_work(findings)
    assert report(findings).endswith("kvmshim run does not work here.")
