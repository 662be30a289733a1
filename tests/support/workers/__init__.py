"""Consumers and leaders as processes, and handlers driven batch by batch."""
