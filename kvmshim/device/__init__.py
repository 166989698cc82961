"""The front doors: `/dev/kvm` and the files behind it, served through libfuse3."""
