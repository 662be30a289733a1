"""Start, watch, drain and stop the process of a role."""
