"""The gateway: OpenAI-compatible HTTP, tasks, MCP, metrics and the dashboard."""
