"""Typed callers of the hypercalls, one module for each group.

All raise `MvError` where the hypercall is refused, and repeat a call that answers "call again".
"""
