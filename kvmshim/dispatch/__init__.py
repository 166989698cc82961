"""From an ioctl request to its handler and back: decoding, copies, errno. No KVM meaning."""
