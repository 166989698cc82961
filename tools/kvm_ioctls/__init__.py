"""The own tests of rust-vmm's `kvm-ioctls` crate, against kvmshim."""
