"""Open the Redis clients and translate their errors."""
