"""Each KVM ioctl, spoken by a process through the device, against what Linux answers."""
