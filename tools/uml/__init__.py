"""A throw-away machine with CUSE: user-mode Linux on this machine's own file system."""
