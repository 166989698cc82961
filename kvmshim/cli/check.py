"""`kvmshim check`."""

import argparse
from typing import Any

from kvmshim.cli.wiring import Wiring
from kvmshim.device.capabilities import Finding, find_all

_DESCRIPTION = """\
Say what this machine can do, and for what is missing what to do about it. The exit status is 0 when
`kvmshim run` would work here for you, else 1.
"""


def add_parser(commands: Any) -> None:
    """Add the subcommand's grammar."""
    parser = commands.add_parser(
        "check", help="say what this machine can do", description=_DESCRIPTION
    )
    parser.set_defaults(run=_run)


def _run(_arguments: argparse.Namespace, _wiring: Wiring) -> int:
    findings = find_all()
    print(report(findings))
    return 0 if run_would_work(findings) else 1


def run_would_work(findings: list[Finding]) -> bool:
    """Whether nothing that `kvmshim run` needs is missing."""
    return all(finding.good for finding in findings if finding.for_run)


def report(findings: list[Finding]) -> str:
    """The findings as text, and the conclusion."""
    lines = []
    for finding in findings:
        lines.append(f"{'ok' if finding.good else 'no':<3} {finding.subject:<11} {finding.found}")
        if not finding.good:
            lines.append(f"    {'':<11} -> {finding.advice}")
    works = "works" if run_would_work(findings) else "does not work"
    lines.append(f"kvmshim run {works} here.")
    return "\n".join(lines)
