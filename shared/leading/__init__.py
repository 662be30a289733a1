"""Elect one leader per schedule with a lease and a fencing token."""
