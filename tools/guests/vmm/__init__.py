"""The virtual machine monitors that guests are run under: a module each."""
