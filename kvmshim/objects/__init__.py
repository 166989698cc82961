"""What a file descriptor stands for: the system, a VM, a vCPU. Identity, lifetime, locks."""
