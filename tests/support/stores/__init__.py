"""Real stores as processes, and views past the product."""
