"""Read and write memories, links, entities and views in the graph."""
