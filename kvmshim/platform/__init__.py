"""The services of the operating system that handlers may ask for, as narrow protocols."""
