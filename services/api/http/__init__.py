"""Authenticate, parse, validate, answer and document: what every route shares."""
