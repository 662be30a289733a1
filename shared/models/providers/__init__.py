"""Call one embedding provider each, or a model in this process."""
