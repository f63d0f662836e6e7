"""The command line: one file a verb."""

from polysilicon.cli.app import main

__all__ = ["main"]
