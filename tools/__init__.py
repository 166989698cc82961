"""Programs for kvmshim's developers."""
