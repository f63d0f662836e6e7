"""Which commitments, when: contracts, scenarios, the solver and its certificate."""
