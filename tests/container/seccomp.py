"""What container engines let no program call, as a `linux.seccomp` of OCI's runtime specification.

The calls are those that Docker's documentation lists as refused by its default profile ("Seccomp
security profiles for Docker", "Significant syscalls blocked by the default profile"), with those
that it allows on new kernels only.
"""

from typing import Any, Final

_EPERM: Final = 1
_REFUSED: Final = """
acct add_key bpf clock_adjtime clock_settime create_module delete_module finit_module
get_kernel_syms get_mempolicy init_module ioperm iopl io_uring_enter io_uring_register
io_uring_setup kcmp kexec_file_load kexec_load keyctl lookup_dcookie mbind mount move_pages
nfsservctl open_by_handle_at perf_event_open pivot_root process_vm_readv process_vm_writev ptrace
query_module quotactl reboot request_key set_mempolicy setns settimeofday swapoff swapon sysfs
_sysctl umount2 unshare uselib userfaultfd ustat
"""

PROFILE: Final[dict[str, Any]] = {
    "defaultAction": "SCMP_ACT_ALLOW",
    "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"],
    "syscalls": [
        {"names": _REFUSED.split(), "action": "SCMP_ACT_ERRNO", "errnoRet": _EPERM},
    ],
}
