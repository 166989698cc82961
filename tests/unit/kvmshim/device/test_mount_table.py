"""`/proc/self/mountinfo` as the doors read it."""

from kvmshim.device.mount_table import Mount, parse

TABLE = r"""
27 1 254:0 / / rw,relatime shared:1 - ext4 /dev/vda rw
43 27 0:40 / /run/kvm rw,nosuid shared:7 master:2 - fuse.kvmshim kvmshim rw,user_id=0
44 27 0:41 / /tmp/a\040b\134c rw - tmpfs tmpfs rw
""".strip()


def test_fields_are_found_whatever_optional_ones_there_are() -> None:
    assert parse(TABLE)[:2] == [
        Mount("254:0", "/", "ext4"),
        Mount("0:40", "/run/kvm", "fuse.kvmshim"),
    ]


def test_escaped_characters_of_a_path_are_restored() -> None:
    assert parse(TABLE)[2].path == "/tmp/a b\\c"


def test_empty_table_has_no_mounts() -> None:
    assert parse("") == []
