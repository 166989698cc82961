"""`python -m kvmshim`."""

from kvmshim.cli.main import main

main()
