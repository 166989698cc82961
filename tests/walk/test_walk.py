"""The engine's page walk, in a guest, against the model. `make walks` makes a million."""

from tests.walk.campaign import compare

WALKS = 60_000
SEED = 1


def test_a_guest_finds_what_the_model_of_the_page_walk_finds() -> None:
    result = compare(WALKS, SEED)
    assert result.mismatches == []
    assert result.walks >= WALKS


def test_the_random_tables_reach_every_outcome() -> None:
    """A comparison is worth something only where all kinds of outcomes occur."""
    seen = compare(WALKS // 2, SEED + 1).outcomes
    faults = {
        "LEGACY": ("0x00", "0x01", "0x02", "0x03", "0x04", "0x05", "0x06", "0x07", "0x09", "0x0d"),
        "PAE": ("0x00", "0x07", "0x09", "0x0b", "0x0d", "0x0f", "0x10", "0x11", "0x15", "0x19"),
        "LEVEL4": ("0x00", "0x07", "0x09", "0x0f", "0x11", "0x15", "0x1d", "0x21", "0x25", "0x27"),
        "LEVEL5": ("0x00", "0x07", "0x09", "0x0f", "0x11", "0x15", "0x1d", "0x21", "0x25", "0x27"),
    }
    wanted = {
        *((mode, f"#PF {code}") for mode, codes in faults.items() for code in codes),
        *((mode, action) for mode in faults for action in ("done", "ran")),
    }
    found = {(mode, outcome) for mode, _action, outcome in seen}
    assert wanted - found == set()
