"""The lines of the control socket, whatever arrives."""

import json
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kvmshim.control import protocol
from kvmshim.control.protocol import Lines, Request, RequestError

_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner),
    max_leaves=8,
)


@given(st.binary())
def test_any_bytes_are_a_request_or_refused(line: bytes) -> None:
    with suppress(RequestError):
        assert protocol.parse_request(line).do == json.loads(line)["do"]


@given(_JSON)
def test_any_json_is_a_request_or_refused(message: object) -> None:
    line = json.dumps(message).encode()
    if isinstance(message, dict) and isinstance(message.get("do"), str) and "id" not in message:
        assert protocol.parse_request(line).do == message["do"]
    else:
        with suppress(RequestError):
            protocol.parse_request(line)


@given(st.text(), st.none() | st.integers(), st.dictionaries(st.text(), _JSON))
def test_a_request_arrives_as_it_was_sent(do: str, number: int | None, rest: object) -> None:
    assert isinstance(rest, dict)
    arguments = {name: value for name, value in rest.items() if name not in ("do", "id")}
    line = protocol.encode({"do": do, "id": number, **arguments})
    assert protocol.parse_request(line) == Request(do, number, arguments)


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"[]",
        b"1",
        b'"list"',
        b"{}",
        b'{"do":1}',
        b'{"do":"list","id":"1"}',
        b"\xff",
        b"[" * 9999,
    ],
)
def test_what_is_no_request_is_refused(line: bytes) -> None:
    with pytest.raises(RequestError) as refusal:
        protocol.parse_request(line)
    assert refusal.value.kind == "bad-request"


@given(st.lists(st.binary().filter(lambda line: b"\n" not in line)), st.integers(1, 20))
def test_lines_are_the_same_in_whatever_pieces_they_come(lines: list[bytes], size: int) -> None:
    stream = b"".join(line + b"\n" for line in lines)
    cut = Lines()
    pieces = [stream[at : at + size] for at in range(0, len(stream), size)]
    assert [line for piece in pieces for line in cut.feed(piece)] == lines


@pytest.mark.parametrize("end", [b"", b"\n"])
def test_a_line_that_is_too_long_is_refused(end: bytes) -> None:
    assert list(Lines(8).feed(b"1234567\n")) == [b"1234567"]
    with pytest.raises(RequestError):
        list(Lines(8).feed(b"12345678" + end))


@pytest.mark.parametrize("value", [None, "1", 1.5, True, -1, []])
def test_a_number_is_a_number(value: object) -> None:
    with pytest.raises(RequestError):
        Request("regs", arguments={"vcpu": value}).integer("vcpu")


@pytest.mark.parametrize("value", [None, 1, True, []])
def test_a_text_is_a_text(value: object) -> None:
    with pytest.raises(RequestError):
        Request("regs", arguments={"vm": value}).text("vm")
