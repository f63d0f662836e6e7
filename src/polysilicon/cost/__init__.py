"""How long a step takes, how dear it is, and how sure that is; the only place that knows."""
