"""trio, without the libraries for TLS that it imports and kvmshim never uses: 5 MiB of a daemon.

They are loaded if somebody uses them after all. Import trio from here.
"""

import importlib
import sys
from types import ModuleType
from typing import Any, Final

_UNUSED: Final = ("ssl", "hmac")
"""What trio imports of the kind, and no more than imports."""


class _Deferred(ModuleType):
    """In the place of a module until something in it is used."""

    def __getattr__(self, name: str) -> Any:
        # The machinery of imports asks for such names.
        if name.startswith("__"):
            raise AttributeError(name)
        if sys.modules.get(self.__name__) is self:
            del sys.modules[self.__name__]
        return getattr(importlib.import_module(self.__name__), name)


for _name in _UNUSED:
    sys.modules.setdefault(_name, _Deferred(_name))

import trio as trio  # noqa: E402 - others import it from here, and not before
