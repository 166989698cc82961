"""The process at the other end of an fd, seen and changed from outside only."""
