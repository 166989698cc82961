"""Becomes the program of its arguments, if kvmshim answers at /dev/kvm: exit status 77 otherwise.

Run inside `kvmshim run`, it opens what the program is going to open. It imports nothing of ours,
so that it starts fast: the number is that of `kvmshim.abi.limits`, which a test compares.
"""

import fcntl
import os
import sys

KVM_CHECK_EXTENSION = 0xAE03
KVMSHIM_CAP_IDENTITY = 0x6B76736D
NOT_KVMSHIM = 77


def is_kvmshim(path: str) -> bool:
    """Whether kvmshim answers at `path`; no other device has this capability."""
    try:
        kvm = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        return fcntl.ioctl(kvm, KVM_CHECK_EXTENSION, KVMSHIM_CAP_IDENTITY) == KVMSHIM_CAP_IDENTITY
    except OSError:
        return False
    finally:
        os.close(kvm)


def main() -> None:
    """Asks, then executes."""
    if not is_kvmshim("/dev/kvm"):
        print("/dev/kvm is not kvmshim's")
        sys.exit(NOT_KVMSHIM)
    os.execv(sys.argv[1], sys.argv[1:])


if __name__ == "__main__":
    main()
