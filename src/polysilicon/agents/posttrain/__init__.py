"""The agent `posttrain`: answers, verifies, trains on what passed, evaluates, again."""

from polysilicon.agents.posttrain.agent import AGENT

__all__ = ["AGENT"]
