"""Ioctls of the system fd."""
