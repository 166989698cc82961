"""What the doors are given to serve with; tests give something else."""

from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass

from kvmshim.cli.processor import Processor
from kvmshim.client.cpuid_watch import emulated_cpuid
from kvmshim.control.address import own_directory
from kvmshim.device.door import DoorError
from kvmshim.device.run import Accompany
from kvmshim.device.workplace import Beside, Service, nothing_beside


@dataclass(frozen=True, slots=True)
class Wiring:
    """What stands behind the doors."""

    make_service: Callable[[Processor], Service]
    """Called once, after the last fork, with the options about processors."""
    prepare_command: Callable[[], None] = lambda: None
    """Called in the child of `kvmshim run`, last before exec."""
    accompany_command: Accompany = lambda _pid, _child_signals: nullcontext()
    """What `kvmshim run` does about its command while it lives."""
    beside: Callable[[str], Beside] = lambda _label: nothing_beside
    """What a daemon does beside serving; called first of all, with what people call the daemon."""


def default_wiring() -> Wiring:
    """Dispatch and the engine."""
    return Wiring(_kvm_service, accompany_command=emulated_cpuid, beside=_control_socket)


def _control_socket(label: str) -> Beside:
    # A private namespace would hide whose directory it is.
    directory = own_directory()

    async def serve_control(service: Service) -> None:
        # It has the engine, as the service has; the decoders of command lines do without.
        from kvmshim.control import server
        from kvmshim.device.service import KvmService

        if isinstance(service, KvmService):
            await server.serve(directory, service.living, label)

    return serve_control


def _kvm_service(processor: Processor) -> Service:
    try:
        # Not before it is needed: `check` and `--help` do without the engine.
        from kvmshim.client.client import Client
        from kvmshim.client.ram_file import RamFiles
        from kvmshim.device.door_ffi import pin_vcpus
        from kvmshim.device.mount import mount_large_pages
        from kvmshim.device.service import KvmService
        from kvmshim.handle.system.code_cache import limit_code_cache
        from kvmshim.handle.system.personality import choose_personality
    except ImportError as error:
        raise DoorError(f"the engine is not built: {error}") from error
    if processor.cpu is not None:
        choose_personality(processor.cpu)
    if processor.code_cache_mib is not None:
        limit_code_cache(processor.code_cache_mib)
    if processor.pin_vcpus:
        pin_vcpus()
    Client.memory_from(RamFiles(mount_large_pages))
    return KvmService()
