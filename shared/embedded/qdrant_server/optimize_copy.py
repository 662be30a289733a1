"""The child process of the optimizer: build the indexes of one closed shard.

It runs as a file, with the server's process id and the shard's folder as arguments. It is a
process of its own because `optimize()` holds Python's GIL until it returns. It imports the
engine alone, so that it starts at once.
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
    # The kernel ends this process with the server, whose folder it works on.
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != server_pid:
        return  # the server was killed before the line above
    os.nice(_NICENESS)
    shard = edge.EdgeShard.load(path)
    shard.optimize()
    shard.flush()
    shard.close()


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2])
