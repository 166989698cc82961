"""The root's side of MicroV's hypercalls: typed callers of the engine that `microv/rust` builds.

Registers and one shared page per thread are all that crosses. `ops` has a module for each group of
hypercalls; `call` makes one; `engine_ffi` alone knows how the engine is loaded.
"""
