"""Plans for the tools that rent and start machines; each writes files that its tool reads."""
