"""Speak FalkorDB: queries, schema, and rows as Memory objects."""
