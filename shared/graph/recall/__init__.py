"""Read the candidates of a recall from the graph."""
