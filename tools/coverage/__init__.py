"""Which lines and handlers of the interpreter the Rust tests and the oracle reach."""
