"""OpenTelemetry traces: those of others taken in, the gateway's own sent out."""
