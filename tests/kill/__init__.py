"""Death in the middle: what is left when the client, the server or both are killed.

A process that is killed can be waited for only when all its threads have left the kernel: one that
sleeps there uninterruptibly makes the wait run into its deadline.
"""
