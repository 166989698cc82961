"""Ioctls of the vm fd."""
