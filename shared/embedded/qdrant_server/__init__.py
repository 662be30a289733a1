"""A Qdrant REST server for one machine, over the engine of the qdrant-edge wheel.

It lets every process of an embedded installation talk to its vectors with the
stock `qdrant-client`, as it would to Qdrant. Invariant: what it acknowledged
survives SIGKILL.

One process, one event loop, no engine threads: each call into qdrant-edge 0.9
holds Python's GIL until it returns (measured: `optimize()` on 90 000 points
froze every other thread for 22 s), so a thread would add a hop and free nobody.
Calls are kept short instead, and `optimize()` runs in a child process on a copy
of the collection (see `optimizer`).
"""
