"""Every requirement of Hyper-V's interface has a test that bears its id, or a reason why not.

The ids are those of the requirement tables the tests were written from: HV (enlightenments), TI
(KVM_HYPERV_SET_TLB_FLUSH_INHIBIT), TR (KVM_TRANSLATE2). A test's name begins with them, and, where
a requirement has parts, with the part's name: each of them has a test or a reason of its own.
"""

import re
from functools import cache
from pathlib import Path
from typing import Final

import pytest

from tests.server import ROOT

_NESTED: Final = "waits for nested virtualization"
_VMS: Final = "proved by guests that boot: tools/guests"

WITHOUT_TEST: Final[dict[str, str]] = {
    "hv_00e": "names of bits: test_hv_24",
    "hv_00f": "names of bits: test_hv_24",
    "hv_00g": "names of bits: test_hv_24",
    "hv_00h": "names of bits: test_hv_24",
    "hv_01": "a bit of CPUID, nothing else",
    "hv_04": "what it is: test_hv_00n, test_hv_24",
    "hv_19": _VMS,
    "hv_32": _NESTED,
    "hv_33": _NESTED,
    "hv_43": _NESTED,
    "hv_45": "virtual trust levels: another matter",
    "ti_16": "returns between virtual trust levels: another matter",
    "ti_18": "what it asks for: test_ti_05, test_ti_07, test_ti_08",
    "ti_19": "bugs of the series that have no counterpart: test_ti_13, test_ti_15",
    "tr_02": "values: test_tr_03",
}
PARTS: Final[dict[str, dict[str, str | None]]] = {
    "hv_16": {"absent": None, "vmcs": _NESTED},
    "hv_21": {"bit": None, "bitmaps": _NESTED},
    "hv_46": {"name": None, "nested": _NESTED},
    "hv_47": {
        "idle": None,
        "polling": None,
        "lock": None,
        "partition": None,
        "output": None,
        "start": None,
        "registers": None,
        "index": None,
        "statistics": "the specification names MSRs, and not what their pages hold: test_hv_00m",
    },
    "tr_07": {"modes": None, "nested": _NESTED},
}
"""By part: None, there are tests, or why there are none."""

IDS: Final = [
    *(f"hv_00{letter}" for letter in "abcdefghijklmno"),
    *(f"hv_{number:02}" for number in (*range(1, 26), *range(30, 36), *range(40, 48))),
    *(f"ti_{number:02}" for number in range(1, 21)),
    *(f"tr_{number:02}" for number in range(1, 10)),
]
_NAME: Final = re.compile(r"\b(?:def|fn) (?:test_)?((?:(?:hv|ti|tr|rg)_\d\d[a-o]?_)+)")
_PLACES: Final = ("tests", "cpu/paravirt", "cpu/mmu", "cpu/engine", "microv/rust")


@cache
def texts() -> list[str]:
    files = [path for place in _PLACES for path in Path(ROOT, place).rglob("*.[pr][ys]")]
    return [path.read_text() for path in files]


def named() -> set[str]:
    """The ids that tests bear."""
    names = (match for text in texts() for match in _NAME.findall(text))
    return {found for name in names for found in re.findall(r"[a-z]{2}_\d\d[a-o]?", name)}


def parts_of(requirement: str) -> set[str]:
    """The parts of it that tests bear."""
    name = re.compile(rf"\b(?:def|fn) (?:test_)?{requirement}_([a-z]+)")
    return {match for text in texts() for match in name.findall(text)}


@pytest.fixture(scope="module")
def with_test() -> set[str]:
    return named()


@pytest.mark.parametrize("requirement", IDS)
def test_a_requirement_has_a_test_or_a_reason(requirement: str, with_test: set[str]) -> None:
    assert (requirement in with_test) != (requirement in WITHOUT_TEST)


@pytest.mark.parametrize("requirement", PARTS)
def test_each_part_has_a_test_or_a_reason(requirement: str) -> None:
    wanted = {part for part, reason in PARTS[requirement].items() if reason is None}
    assert parts_of(requirement) == wanted


def test_no_other_ids_are_used(with_test: set[str]) -> None:
    assert {name for name in with_test if not name.startswith("rg_")} <= set(IDS)
