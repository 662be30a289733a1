"""A Qdrant REST server for one machine, over the engine of the qdrant-edge wheel.

With it every process of an embedded installation reads and writes vectors through the stock
`qdrant-client`, as it would with Qdrant. What it acknowledged survives SIGKILL. It serves the
routes that the product calls, and answers 501 to any other route of Qdrant.

The engine runs on the event loop, without threads: each call into qdrant-edge 0.9 holds
Python's GIL until it returns (measured: `optimize()` on 90 000 points stopped every other
thread for 22 s), so a thread would not let another request run. Calls are short instead, and
`optimize()` runs in a child process on a copy of the collection (see `optimizer`).

Modules import `annotations` from `__future__` where they use a type alias of the engine's stub:
the engine itself does not have it.
"""
