"""The control socket: what a daemon says of its VMs to who may ask. docs/control.md."""
