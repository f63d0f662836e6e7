"""Which pool takes this step now, which step runs next, how many at once: pure functions."""
