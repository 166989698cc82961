"""The meaning of each ioctl, one module per family. Touches no operating system."""
