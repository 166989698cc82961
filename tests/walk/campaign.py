"""Any number of walks: worlds one after another, each with as many probes as a run holds."""

from collections import Counter
from dataclasses import dataclass, field
from random import Random
from struct import unpack_from
from typing import Final

from tests.walk import control as controls
from tests.walk.control import Control
from tests.walk.edits import Edit
from tests.walk.machine import Machine
from tests.walk.model import Mode
from tests.walk.probes import Generator, Outcome, Probe, control_record, stop_record
from tests.walk.program import CAPACITY, RECORD, Field
from tests.walk.tables import World, build

_RUNS: Final = 2
"""A world is run more than once, so that accessed and dirty bits are compared in between."""
_REPORTS: Final = 5
_MODES: Final = tuple(Mode)


@dataclass
class Result:
    """How many probes there were, with which outcomes, and what differed."""

    walks: int = 0
    outcomes: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    mismatches: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class _Expected:
    """A probe with its context."""

    probe: Probe
    outcome: Outcome
    control: Control


def compare(walks: int, seed: int) -> Result:
    """Makes at least this many walks."""
    result = Result()
    number = 0
    while result.walks < walks:
        world = build(Random(f"{seed}/{number}"), _MODES[number % len(_MODES)])
        _compare_world(world, f"seed {seed} world {number}", result)
        number += 1
    return result


def _compare_world(world: World, name: str, result: Result) -> None:
    generator = Generator(world, controls.initial(world, world.random))
    with Machine(world, generator.control) as machine:
        for run in range(_RUNS):
            where = f"{name} run {run}"
            records, expected = _prepare(generator)
            try:
                found = machine.run(records)
            except RuntimeError as error:
                result.mismatches.append(f"{where} {world.mode}: {error}")
                return
            _compare_run(generator, found, expected, where, result)
            _compare_memory(world, machine, where, result)


def _prepare(generator: Generator) -> tuple[bytes, dict[int, _Expected]]:
    """Records, and by their number what is expected."""
    records = bytearray(RECORD * (CAPACITY + 1))
    expected: dict[int, _Expected] = {}
    for number, step in zip(range(CAPACITY), generator.steps, strict=False):
        at = number * RECORD
        match step:
            case Control():
                control_record(step, records, at)
            case Edit():
                step.record(records, at)
            case probe, outcome:
                probe.record(records, at)
                expected[number] = _Expected(probe, outcome, generator.control)
    stop_record(records, CAPACITY * RECORD)
    return bytes(records), expected


def _compare_run(
    generator: Generator,
    records: bytes,
    expected: dict[int, _Expected],
    where: str,
    result: Result,
) -> None:
    differing = 0
    for number, wanted in expected.items():
        found = Outcome(*unpack_from("<4Q", records, number * RECORD + Field.VECTOR))
        result.walks += 1
        result.outcomes[_kind_of(generator.world, wanted)] += 1
        if found != wanted.outcome:
            differing += 1
            if differing <= _REPORTS:
                report = _report(generator, wanted, found)
                result.mismatches.append(f"{where} record {number}: {report}")
    if differing > _REPORTS:
        result.mismatches.append(f"{where}: {differing} records differ in all")


def _kind_of(world: World, wanted: _Expected) -> tuple[str, str, str]:
    outcome = wanted.outcome
    name = {3: "ran", 13: "#GP", 14: f"#PF {outcome.error_code:#04x}"}.get(outcome.vector, "done")
    return world.mode.name, wanted.probe.action.name, name


def _report(generator: Generator, wanted: _Expected, found: Outcome) -> str:
    """The probe, the registers, and the entries on the way as they are after the run."""
    world, probe = generator.world, wanted.probe
    lines = [
        f"{probe}",
        f"  {world.mode} physical bits {world.physical_bits} 1 GiB pages {world.pages_1g} "
        f"Intel {world.intel} {wanted.control} PKRU {probe.pkru:#x}",
        f"  address {probe.address:#x} expected {wanted.outcome}, found {found}",
    ]
    for walked in generator.walks(probe, wanted.control):
        lines += [f"    {step.name} at {step.gpa:#x}: {step.raw:#x}" for step in walked.steps]
    return "\n".join(lines)


def _compare_memory(world: World, machine: Machine, where: str, result: Result) -> None:
    """Accessed and dirty bits of the tables, and the data."""
    for gpa, page in world.memory.pages.items():
        found = machine.page(gpa)
        if found == page:
            continue
        at = next(
            number
            for number in range(0, len(page), 8)
            if _word(found, at=number) != _word(page, at=number)
        )
        kind = "table" if gpa in world.tables else "data"
        result.mismatches.append(
            f"{where}: {kind} at {gpa + at:#x} should be {_word(page, at=at):#x}, "
            f"is {_word(found, at=at):#x}"
        )


def _word(page: bytes | bytearray, *, at: int) -> int:
    return int.from_bytes(page[at : at + 8], "little")
