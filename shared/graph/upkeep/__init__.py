"""Sweep, restore and export a graph, and keep its Run nodes."""
