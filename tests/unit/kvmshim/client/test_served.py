"""Which file systems this process serves."""

from kvmshim.client.served import ServedDevices


def test_a_number_is_served_until_it_is_not() -> None:
    served = ServedDevices()
    served.add(7)
    assert (7 in served, 8 in served) == (True, False)
    served.remove(7)
    assert 7 not in served


def test_a_number_that_was_given_anew_stays_served_when_the_first_ends() -> None:
    served = ServedDevices()
    served.add(7)
    served.add(7)
    served.remove(7)
    assert 7 in served
