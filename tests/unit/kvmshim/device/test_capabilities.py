"""What `kvmshim check` thinks of a machine."""

import pytest

from kvmshim.device.capabilities import kernel


@pytest.mark.parametrize("release", ["5.6.0", "5.10.0-21-amd64", "6.1.0", "10.0-rc1"])
def test_kernel_with_pidfd_getfd_is_good(release: str) -> None:
    assert kernel(release).good


@pytest.mark.parametrize("release", ["5.5.19", "4.19.0-6", "3.10", "unknown"])
def test_older_kernel_is_not_and_the_advice_says_which_is(release: str) -> None:
    finding = kernel(release)
    assert not finding.good
    assert "5.6" in finding.advice
