"""The other end of the control socket: what people see of the VMs of all daemons."""
