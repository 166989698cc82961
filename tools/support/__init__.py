"""Writes the tables of what there is: docs/support.md, and the short one of README.md."""
