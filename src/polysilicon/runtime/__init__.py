"""Do it: engines, sandboxes, search, journal and the local executor."""
