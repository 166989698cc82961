"""Many processors of one guest, a thread each: starts, interrupts, shoot-downs, sleep.

Every test ends by counts that the guest reaches; a wake-up that is lost is a test that hangs into
its deadline. `KVMSHIM_SMP_ROUNDS` multiplies the rounds.
"""
