"""The KVM selftests of Debian's kernel sources against kvmshim: `make selftests`."""
