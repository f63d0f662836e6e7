"""Pretend to do it: the same events and the same scheduling as the runtime, estimated durations."""

from polysilicon.simulate.result import Result
from polysilicon.simulate.simulate import simulate

__all__ = ["Result", "simulate"]
