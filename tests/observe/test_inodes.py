"""Numbers of paths, as the kernel learns and forgets them."""

from hypothesis import given
from hypothesis import strategies as st

from kvmshim.observe.inodes import Inodes

_PATHS = st.lists(st.tuples(st.sampled_from("abc"), st.sampled_from("xy")), min_size=1)


@given(_PATHS)
def test_a_path_has_one_number_until_it_is_forgotten(paths: list[tuple[str, str]]) -> None:
    inodes = Inodes(1)
    numbers = [inodes.know(path) for path in paths]
    assert len(set(numbers)) == len(set(paths))
    assert [inodes.path(number) for number in numbers] == paths
    for number in numbers:
        inodes.forget(number, 1)
    assert len(inodes) == 1


def test_the_root_is_never_forgotten() -> None:
    inodes = Inodes(1)
    inodes.forget(1, 5)
    assert inodes.path(1) == ()


def test_a_number_is_not_used_twice() -> None:
    inodes = Inodes(1)
    first = inodes.know(("a",))
    inodes.forget(first, 1)
    assert inodes.know(("b",)) != first
