"""`--help`, and what a newcomer types wrong."""

import pytest

from tests.cli.environment import kvmshim

pytestmark = pytest.mark.usefixtures("guarded")


@pytest.mark.parametrize("command", ["run", "serve", "check", "abi"])
def test_help_names_every_command(command: str) -> None:
    result = kvmshim("--help")
    assert result.returncode == 0
    assert f"kvmshim {command}" in result.stdout


@pytest.mark.parametrize("command", ["run", "serve", "check", "abi"])
def test_every_command_has_help(command: str) -> None:
    result = kvmshim(command, "--help")
    assert result.returncode == 0
    assert result.stdout.startswith(f"usage: kvmshim {command}")


@pytest.mark.parametrize("arguments", [[], ["frobnicate"], ["--no-such-option"]])
def test_nonsense_is_a_usage_error(arguments: list[str]) -> None:
    result = kvmshim(*arguments)
    assert (result.returncode, result.stdout) == (2, "")
    assert "usage: kvmshim" in result.stderr
