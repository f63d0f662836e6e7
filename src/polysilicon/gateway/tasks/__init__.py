"""`/v1/tasks`: agents run by the gateway, durable over restarts, followed live."""
