"""LLM steps: which law holds where, and what it says."""
