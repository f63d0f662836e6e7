"""Pretend to do it: the same events and the same scheduling, with estimated durations."""
