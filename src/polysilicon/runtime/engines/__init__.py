"""Engines: what answers `chat` and `embed` steps."""
