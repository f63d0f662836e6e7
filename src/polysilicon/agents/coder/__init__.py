"""The agent `coder`: writes Python functions, runs their tests in the sandbox, repairs them."""

from polysilicon.agents.coder.agent import AGENT

__all__ = ["AGENT"]
