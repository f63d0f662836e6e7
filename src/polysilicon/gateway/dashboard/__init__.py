"""The dashboard at `/`: what the fleet does now, what it costs, and what else could do it."""
