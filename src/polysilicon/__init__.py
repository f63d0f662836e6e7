"""Polysilicon runs AI agents on the cheapest silicon that is fast enough."""
