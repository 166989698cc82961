"""What the part of the door that answers KVM_RUN does for a whole VM."""

from typing import Protocol


class VmDoor(Protocol):
    """One VM's, from its beginning to its end."""

    def add_zone(self, address: int, size: int, *, port: bool) -> bool:
        """Writes inside of [address, address + size) wait in a ring from now on. False: there are
        too many zones."""

    def remove_zones(self, address: int, size: int, *, port: bool) -> None:
        """Undo `add_zone` for every zone that holds all of the range."""

    def set_slot(self, number: int, gpa: int, size: int) -> None:
        """Where the slot of a number is, as hypercalls have its address; nowhere with no size.
        What dirty rings tell of a written page."""

    def reset_rings(self) -> int:
        """Free the entries of dirty rings that the client has harvested, and have their pages
        logged anew; how many entries those were. One call at a time."""

    def close(self) -> None:
        """The VM is about to end."""
