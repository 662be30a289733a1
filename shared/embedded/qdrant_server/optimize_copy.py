"""The child process of the optimiser: build the indexes of one closed shard.

Run as a file, with the server's process id and the shard's folder as arguments. It
is a process of its own because `optimize()` holds Python's GIL for as long as it
takes; it imports nothing but the engine, so it starts at once.
"""

import ctypes
import os
import signal
import sys

import qdrant_edge as edge

_PR_SET_PDEATHSIG = 1
# At the lowest priority, 19, a saturated machine gave it 1.5 % of a core and 0.3 s of
# work took 9 s.
_NICENESS = 10


def main(server_pid: int, path: str) -> None:
    # A server that is killed must not leave a child that works on its folder.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:
        return  # it was killed before the line above
    os.nice(_NICENESS)
    shard = edge.EdgeShard.load(path)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
