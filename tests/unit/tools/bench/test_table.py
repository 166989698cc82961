"""The table, as it is written."""

import pytest
from rich.table import Table

from tests.unit.tools.bench.figures import booted, measured
from tools.bench import table

ROWS = [
    measured("alu", "integer", (100, 150, 300)),
    measured("x87", "floating", (100, 1400, 1000)),
    booted(800, 400),
]


def test_markdown_has_rows_and_means() -> None:
    lines = table.markdown(ROWS).splitlines()
    cells = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    assert len({len(row) for row in cells}) == 1
    assert cells[2] == [
        *("integer", "alu", "100 µs", "150 µs", "300 µs", "1.50", "3.00", "2.00", ""),
    ]
    assert cells[3][-3:] == ["10.0", "0.71", "slower than TCG"]
    assert cells[4][:-1] == ["boot", "boot", "", "800 ms", "400 ms", "", "", "0.50"]
    assert [row[1] for row in cells[5:]] == ["integer", "floating", "boot", "all rows"]


def test_a_failure_stands_in_the_table_and_the_summary() -> None:
    row = measured("alu", "integer")
    row.failures.append("results differ")
    assert "failed: results differ" in table.markdown([row])
    assert table.summary([row]).endswith("failed: alu")


def test_the_summary_names_what_is_slower_than_tcg() -> None:
    assert table.summary(ROWS).endswith("slower than TCG: x87, boot")
    assert table.summary(ROWS[:1]).endswith("slower than TCG: no row")


@pytest.mark.parametrize(
    ("nanoseconds", "text"),
    [
        (None, ""),
        (0.284, "0.28 ns"),
        (12.34, "12.3 ns"),
        (999.7, "1000 ns"),
        (1000, "1.00 µs"),
        (5_280_000, "5.28 ms"),
        (123_400_000_000, "123 s"),
    ],
)
def test_durations_have_three_digits(nanoseconds: float | None, text: str) -> None:
    assert table.duration(nanoseconds) == text


def test_a_table_of_the_terminal_becomes_one_of_a_document() -> None:
    printed = Table(title="loops")
    printed.add_column("loop")
    printed.add_column("ratio", justify="right")
    printed.add_row("flags", "1.5")
    assert table.plain(printed) == "loops\n\n| loop | ratio |\n| --- | ---: |\n| flags | 1.5 |\n"


def test_the_terminal_gets_the_same_rows() -> None:
    assert table.terminal(ROWS, "programs").row_count == len(table.markdown(ROWS).splitlines()) - 2
