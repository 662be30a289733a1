"""Compare the graph with the vectors and repair what differs."""
