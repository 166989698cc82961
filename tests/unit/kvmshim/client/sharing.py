"""Memory of a puppet as both sides see it."""

import os
import struct

from kvmshim.client.client import Client
from kvmshim.client.shared import SharedRange
from kvmshim.client.threads import nobody
from tests.unit.kvmshim.client.puppet import Puppet

PAGE = 4096
SYS_PIPE = 22


def share(puppet: Puppet, address: int, size: int) -> list[SharedRange]:
    """As from inside a request of the main thread."""
    tid = puppet.enter_request()
    with Client.of_thread(tid).stop_caller(tid, puppet.release) as caller:
        ranges = caller.share(address, size, in_flight=nobody)
        caller.finish(0)
    assert puppet.result() == 0
    return ranges


def pipe(puppet: Puppet) -> tuple[int, int]:
    """The fds of a new pipe in the client."""
    puppet.call(SYS_PIPE, puppet.scratch)
    data = Client.of_thread(puppet.pid).copy_in(puppet.scratch, 8)
    ours, theirs = struct.unpack("<ii", data)
    return ours, theirs


class View:
    """A range of the client's memory as we see it."""

    def __init__(self, ranges: list[SharedRange]) -> None:
        self.ranges = ranges

    def read(self, address: int) -> int:
        part = next(p for p in self.ranges if p.address <= address < p.address + p.size)
        data = os.pread(part.fd, 8, part.offset + address - part.address)
        return int.from_bytes(data, "little")

    def write(self, address: int, value: int) -> None:
        part = next(p for p in self.ranges if p.address <= address < p.address + p.size)
        os.pwrite(part.fd, value.to_bytes(8, "little"), part.offset + address - part.address)


def exchange(puppet: Puppet, view: View, address: int) -> tuple[int, int]:
    """The client writes 11 at `address`, we write 12 a page further; what the other side sees."""
    puppet.poke(address, 11)
    view.write(address + PAGE, 12)
    return view.read(address), puppet.peek(address + PAGE)
