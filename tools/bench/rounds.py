"""Rounds: each row natively, on kvmshim and on TCG, one behind the other, as often as decided here.

What else the machine does falls on all three alike, as far as it lasts longer than a row.
"""

from collections.abc import Callable, Iterable
from typing import Final, Self

from tools.bench.machines import GUESTS, Machine, Starter, Up
from tools.bench.results import BOOT, QUIET_BOOT, Figures
from tools.bench.rows import Row, Sample
from tools.guests.console import Failed

_PROBE_SHARE: Final = 10
"""A count is worked out from a run that takes a tenth of the time wanted, or longer."""
_MOST: Final = 100
"""A probe is at most so many times as long as the one before."""

Tell = Callable[[str], None]


def counted(row: Row, machine: Machine) -> int:
    """How often a machine does a row in the time that it shall take. Failed."""
    wanted = row.milliseconds * 1_000_000
    count = 1
    while True:
        took = max(machine.run(row.name, count).nanoseconds, 1)
        if took * _PROBE_SHARE >= wanted:
            return max(1, round(count * wanted / took))
        count = max(count + 1, min(count * _MOST, count * wanted // took))


def run(
    rows: Iterable[Row], native: Machine, guests: Starter, number: int, tell: Tell
) -> list[Figures]:
    """All rounds; the starts of the guests are the last rows. `tell` gets a line now and then."""
    figures = [_begun(row, native) for row in rows]
    boot, quiet_boot = Figures(BOOT, BOOT, 1), Figures(QUIET_BOOT, BOOT, 1)
    for lap in range(number):
        _measure_quiet_boot(quiet_boot, guests, tell)
        with _Rack(guests) as rack:
            _measure_boot(boot, rack, tell)
            for figure in figures:
                if not figure.failures:
                    _measure(figure, native, rack, tell)
        tell(f"round {lap + 1} of {number}")
    return [*figures, boot, quiet_boot]


class _Rack:
    """The guests of a round, started when they are first wanted."""

    def __init__(self, guests: Starter) -> None:
        self._guests = guests
        self._up: dict[str, Up] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        for name in list(self._up):
            self.lose(name)

    def get(self, name: str) -> Up:
        """The guest. Failed."""
        if name not in self._up:
            self._up[name] = self._guests.start(name)
        return self._up[name]

    def lose(self, name: str) -> None:
        """Ends a guest, if it is up; the next that wants it gets a new one."""
        guest = self._up.pop(name, None)
        if guest:
            guest.close()


def _begun(row: Row, native: Machine) -> Figures:
    try:
        return Figures(row.name, row.group, counted(row, native))
    except Failed as failed:
        return Figures(row.name, row.group, 1, failures=[str(failed)])


def _measure_boot(figure: Figures, rack: _Rack, tell: Tell) -> None:
    try:
        figure.add({name: rack.get(name).boot_nanoseconds for name in GUESTS})
    except Failed as failed:
        _fail(figure, failed, tell)


def _measure_quiet_boot(figure: Figures, guests: Starter, tell: Tell) -> None:
    times = {}
    try:
        for name in GUESTS:
            guest = guests.start(name, quiet=True)
            times[name] = guest.boot_nanoseconds
            guest.close()
    except Failed as failed:
        _fail(figure, failed, tell)
    else:
        figure.add(times)


def _measure(figure: Figures, native: Machine, rack: _Rack, tell: Tell) -> None:
    samples: dict[str, Sample] = {}
    try:
        samples["native"] = native.run(figure.name, figure.count)
        for name in GUESTS:
            samples[name] = _in_guest(figure, rack, name)
        _compare(samples)
    except Failed as failed:
        _fail(figure, failed, tell)
    else:
        figure.add({name: sample.nanoseconds for name, sample in samples.items()})


def _in_guest(figure: Figures, rack: _Rack, name: str) -> Sample:
    try:
        return rack.get(name).run(figure.name, figure.count)
    except Failed:
        rack.lose(name)
        raise


def _fail(figure: Figures, failed: Failed, tell: Tell) -> None:
    figure.failures.append(str(failed))
    tell(f"{figure.name}: {failed}")


def _compare(samples: dict[str, Sample]) -> None:
    """Failed where not all have worked out the same."""
    digests = {name: sample.digest for name, sample in samples.items()}
    if len(set(digests.values())) > 1:
        raise Failed(f"results differ: {digests}")
