"""Classes of tasks: whether somebody waits for the answer."""

from __future__ import annotations

INTERACTIVE, BATCH = 0, 1
"""Somebody waits for it, or nobody does."""
