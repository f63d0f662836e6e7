"""Pretend to do it: the same events and the same scheduling as the runtime, estimated durations."""

from polysilicon.simulate.result import Result
from polysilicon.simulate.simulate import simulate
from polysilicon.simulate.source import Source

__all__ = ["Result", "Source", "simulate"]
