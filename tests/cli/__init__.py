"""The command line: run, serve, check."""
