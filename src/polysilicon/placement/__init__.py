"""Which pools, and how many machines each needs."""
