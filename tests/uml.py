"""Whether what needs user-mode Linux can run here."""

from typing import Final

import pytest

from tools.uml.machine import hindrance

_HINDRANCE: Final = hindrance()

needs_uml = pytest.mark.skipif(bool(_HINDRANCE), reason=_HINDRANCE)
