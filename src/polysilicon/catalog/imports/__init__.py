"""Reads what others publish of prices and sizes, and makes offers of it."""

from __future__ import annotations

from polysilicon.catalog.imports.skypilot import Imported, is_skypilot, read_skypilot

__all__ = ["Imported", "is_skypilot", "read_skypilot"]
