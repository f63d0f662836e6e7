"""Sandboxes: where code that nobody trusts runs."""
