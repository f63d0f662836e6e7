"""Engines as servers of their own: how each is started, on what, and when it is well."""
