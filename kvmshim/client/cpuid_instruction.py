"""The CPUID instruction; SDM volume 2."""

from typing import Final

CPUID: Final = b"\x0f\xa2"
