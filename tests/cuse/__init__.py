"""The real character device, `kvmshim serve --cuse`, with the engine behind it."""
