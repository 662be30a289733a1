"""Events that clients watch, and the counters of what the enricher did."""
