"""`--code-cache`: what translated code may take. No ioctl; said once, before the first VM."""

from microv.ops import pp as pp_op


def limit_code_cache(mib: int) -> None:
    """What the vCPUs of a VM that is created from now on have together."""
    pp_op.set_code_cache(mib)
