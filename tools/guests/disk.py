"""A disk image with a boot loader: GRUB for BIOS and for UEFI, one FAT partition.

GRUB's manual, "BIOS installation" and "Images": `boot.img` is the first sector, and loads the image
made by grub-mkimage from the sectors behind it, up to the partition. The partition has the UEFI
program where firmware looks for it (UEFI specification, "Removable Media Boot Behavior").
"""

import struct
import subprocess
import tempfile
from pathlib import Path
from typing import Final

_SECTOR: Final = 512
_PARTITION_START: Final = 2048
_IMAGE_SECTORS: Final = 128 << 11
_EFI_PARTITION: Final = 0xEF
_CODE_BYTES: Final = 440
_GRUB: Final = Path("/usr/lib/grub")
_FORMATS: Final = {
    "i386-pc": ["biosdisk"],
    "x86_64-efi": [],
}
_MODULES: Final = ["part_msdos", "fat", "normal", "serial", "terminal", "echo", "linux", "boot"]
_CONFIGURATION: Final = """\
serial --unit=0 --speed=115200
terminal_input serial
terminal_output serial
echo "GRUB starts Linux"
linux /vmlinuz {command_line}
initrd /initramfs.gz
boot
"""


def build(image: Path, kernel: Path, initramfs: Path, command_line: str) -> None:
    """Writes the image."""
    with tempfile.TemporaryDirectory(prefix="kvmshim-disk-") as folder:
        root = Path(folder)
        for name in _FORMATS:
            _grub(name, root / name)
        (root / "grub.cfg").write_text(_CONFIGURATION.format(command_line=command_line))
        with image.open("wb") as file:
            file.truncate(_IMAGE_SECTORS * _SECTOR)
            file.write(_first_sector())
            loader = (root / "i386-pc").read_bytes()
            if len(loader) > (_PARTITION_START - 1) * _SECTOR:
                raise ValueError(f"GRUB has {len(loader)} bytes: too many before the partition")
            file.write(loader)
        partition = f"{image}@@{_PARTITION_START * _SECTOR}"
        sectors = str(_IMAGE_SECTORS - _PARTITION_START)
        _mtool("mformat", partition, "-T", sectors, "-h", "16", "-s", "63", "-F", "::")
        _mtool("mmd", partition, "::/EFI", "::/EFI/BOOT", "::/grub")
        for source, name in (
            (kernel, "vmlinuz"),
            (initramfs, "initramfs.gz"),
            (root / "grub.cfg", "grub/grub.cfg"),
            (root / "x86_64-efi", "EFI/BOOT/BOOTX64.EFI"),
        ):
            _mtool("mcopy", partition, source, f"::/{name}")


def _first_sector() -> bytes:
    """The code of `boot.img`, which loads from sector 1 as it is, and the table of partitions."""
    code = (_GRUB / "i386-pc/boot.img").read_bytes()[:_CODE_BYTES]
    # Active, its type, sectors by number; cylinders and heads mean nothing today.
    chs = b"\xfe\xff\xff"
    size = _IMAGE_SECTORS - _PARTITION_START
    entry = struct.pack("<B3sB3sII", 0x80, chs, _EFI_PARTITION, chs, _PARTITION_START, size)
    return code.ljust(446, b"\0") + entry + bytes(48) + b"\x55\xaa"


def _grub(name: str, image: Path) -> None:
    modules = [*_FORMATS[name], *_MODULES]
    command: list[str | Path] = ["grub-mkimage", "-O", name, "-d", _GRUB / name, "-o", image]
    subprocess.run([*command, "-p", "(hd0,msdos1)/grub", *modules], check=True)


def _mtool(program: str, partition: str, *arguments: str | Path) -> None:
    subprocess.run([program, "-i", partition, *arguments], check=True, stdout=subprocess.DEVNULL)
