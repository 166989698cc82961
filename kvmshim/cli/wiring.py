"""What the doors are given to serve with; tests give something else."""

from collections.abc import Callable
from dataclasses import dataclass

from kvmshim.device.door import DoorError
from kvmshim.device.workplace import Service


@dataclass(frozen=True, slots=True)
class Wiring:
    """What stands behind the doors."""

    make_service: Callable[[], Service]
    """Called once, after the last fork."""
    prepare_command: Callable[[], None] = lambda: None
    """Called in the child of `kvmshim run`, last before exec."""


def default_wiring() -> Wiring:
    """Dispatch and the engine."""
    return Wiring(_kvm_service)


def _kvm_service() -> Service:
    try:
        # Not before it is needed: `check` and `--help` do without the engine.
        from kvmshim.device.service import KvmService
    except ImportError as error:
        raise DoorError(f"the engine is not built: {error}") from error
    return KvmService()
