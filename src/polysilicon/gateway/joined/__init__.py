"""Machines that join a running gateway as pools, for as long as they say that they are there."""
