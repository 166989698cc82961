"""Ioctls of the vcpu fd."""
