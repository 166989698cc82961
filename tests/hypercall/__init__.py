"""Hypercalls, one file for each or for a get and set: who may be named, what is refused, what comes
back, and the same again many times."""
