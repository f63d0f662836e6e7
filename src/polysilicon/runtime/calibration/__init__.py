"""Calibration: what this machine can do, measured in a few minutes."""
