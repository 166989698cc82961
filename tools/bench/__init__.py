"""Measures kvmshim: `python -m tools.bench`."""
