"""A `/dev/kvm` for machines that have none."""
