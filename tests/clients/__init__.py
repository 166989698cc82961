"""KVM programs in C, and the tests that run them."""
