"""Publish, deliver and settle jobs on Redis Streams."""
