"""The library all five services stand on; it imports no service."""

__version__ = "0.1.0"
