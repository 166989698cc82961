"""KVM programs in a container that has the device bind-mounted and no privilege."""
