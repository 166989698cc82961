"""mv_debug_op_out."""

import pytest

from microv.ops import debug


def test_both_words_appear_in_hex(capfd: pytest.CaptureFixture[str]) -> None:
    debug.out(0x1234, 2**64 - 1)
    assert "0x0000000000001234 0xffffffffffffffff" in capfd.readouterr().err
