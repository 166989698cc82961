"""A VM with one VS and memory from guest-physical 0, for guests that are a few bytes long."""

import mmap
from types import TracebackType
from typing import Final, Self

from microv import abi_gen as mv
from microv import engine_ffi
from microv.ops import irqchip, vm, vp, vs

CODE: Final = 0x1000
MEMORY: Final = 0x10000
RWX: Final = (
    mv.MV_MAP_FLAG_READ_ACCESS | mv.MV_MAP_FLAG_WRITE_ACCESS | mv.MV_MAP_FLAG_EXECUTE_ACCESS
)


class Vcpu:
    """A VP with its one VS."""

    def __init__(self, vmid: int) -> None:
        self.vpid = vp.create_vp(vmid)
        self.vsid = vs.create_vs(self.vpid)

    def start_at(self, rip: int) -> None:
        """Real mode with CS base 0: the address is the guest-physical one."""
        vs.reg_set_list(
            self.vsid,
            [(mv.mv_reg_t_cs_selector, 0), (mv.mv_reg_t_cs_base, 0), (mv.mv_reg_t_rip, rip)],
        )

    def close(self) -> None:
        """Ends both."""
        vs.destroy_vs(self.vsid)
        vp.destroy_vp(self.vpid)


class Guest:
    """The VM; its code starts at CODE in real mode. Closed as a context."""

    def __init__(
        self, code: bytes = b"\xf4", *, memory: int = MEMORY, controllers: bool = False
    ) -> None:
        self.memory = mmap.mmap(-1, memory)
        self.address = engine_ffi.address_of(self.memory)
        self.vmid = vm.create_vm()
        vm.mmio_map(self.vmid, [(0, self.address, memory, RWX)])
        if controllers:
            irqchip.irqchip_create(self.vmid)
        self.vcpus = [Vcpu(self.vmid)]
        self.vsid = self.vcpus[0].vsid
        self.load(CODE, code)
        self.vcpus[0].start_at(CODE)

    def load(self, gpa: int, content: bytes) -> None:
        """Puts bytes into guest memory."""
        self.memory[gpa : gpa + len(content)] = content

    def add_vcpu(self, rip: int) -> int:
        """One more VP with a VS that starts at an address; its vsid."""
        vcpu = Vcpu(self.vmid)
        vcpu.start_at(rip)
        self.vcpus.append(vcpu)
        return vcpu.vsid

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        _kind: type[BaseException] | None,
        _error: BaseException | None,
        _traceback: TracebackType | None,
    ) -> None:
        for vcpu in self.vcpus:
            vcpu.close()
        vm.destroy_vm(self.vmid)
