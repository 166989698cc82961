"""What of a server's memory counts."""

from kvmshim.client.ram_file import NAME
from tools.bench.memory import Memory, counted

SMAPS = f"""\
5581fff000-558207b000 r-xp 00000000 fe:00 1234    /usr/bin/python3.11
Size:               4096 kB
Rss:                  40 kB
Pss:                  10 kB
Pss_Dirty:             5 kB
VmFlags: rd ex mr mw me
7f01b0000000-7f01b4000000 rw-p 00000000 00:00 0
Rss:                 100 kB
Pss:                 100 kB
7f01c0000000-7f01e0000000 rw-s 00000000 00:01 7   /memfd:{NAME} (deleted)
Rss:              500000 kB
Pss:              250000 kB
7f01e0000000-7f01f0000000 rw-s 00000000 00:2c 2   /{NAME} (deleted)
Rss:              100000 kB
Pss:               50000 kB
7f01f0000000-7f01f0001000 rw-s 00000000 00:01 8   /memfd:other (deleted)
Rss:                   4 kB
Pss:                   2 kB
"""


def test_guest_memory_does_not_count() -> None:
    assert counted(SMAPS.splitlines()) == Memory(resident=144 << 10, share=112 << 10)


def test_nobody_has_nothing() -> None:
    assert counted([]) == Memory(0, 0)
