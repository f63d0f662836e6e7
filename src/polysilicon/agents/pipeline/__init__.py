"""The agent `pipeline`: prepares a folder of text for search and training."""

from polysilicon.agents.pipeline.agent import AGENT

__all__ = ["AGENT"]
