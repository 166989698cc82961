"""Tests of kvmshim: what a client of /dev/kvm sees, and what it leaves behind."""
