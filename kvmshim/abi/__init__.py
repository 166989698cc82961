"""KVM's ABI as data: ioctl numbers, structures, constants, limits. Imports nothing of ours."""
