"""The catalogue of guests is what its head says."""

import re
from importlib.util import find_spec
from pathlib import Path

import pytest

from tools.guests import catalogue

_CHECKS = Path(catalogue.__file__).with_name("inside") / "checks"


def test_every_guest_has_a_vmm_a_scenario_and_its_checks() -> None:
    checks = set(re.findall(r"^check_(\w+)\(\)", _CHECKS.read_text(), re.MULTILINE))
    for case in catalogue.load():
        assert find_spec(f"tools.guests.vmm.{case.vmm}"), case.name
        assert find_spec(f"tools.guests.scenario.{case.scenario}"), case.name
        assert checks.issuperset(case.all_checks), case.name


def test_no_two_guests_write_the_same_log() -> None:
    names = [case.file_name for case in catalogue.load()]
    assert len(set(names)) == len(names)


def test_a_misspelt_key_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "catalogue.toml"
    path.write_text('["a guest"]\nvmm = "qemu"\nirqchips = "on"\n')
    with pytest.raises(ValueError, match="irqchips"):
        catalogue.load(path)
