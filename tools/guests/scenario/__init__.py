"""What happens to a guest between its start and its end: a module each."""
