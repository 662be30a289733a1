"""Read the entities of a batch in a thread, and give up a text that takes too long.

In a thread of their own spaCy and the rules leave the event loop its share of the interpreter.
Every pattern and loop of ours takes linear time; the budget is for what no test foresaw.
"""

from __future__ import annotations

import asyncio
import ctypes
import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from functools import partial
from typing import Generic, TypeVar

from services.enricher.entities.nlp import MAX_CHARS, Annotated, Pipeline
from services.enricher.entities.recognizer import Found, entities_of
from shared.errors import PermanentError
from shared.waiting import wait

# The rules need some 50 ms for the longest text, 20,000 characters.
TEXT_CPU_S = 2.0
# spaCy reads some 50,000 characters in a second.
_CHARS_PER_CPU_S = 5_000
_LOOK_EVERY_S = 0.25
# spaCy is stuck after twice its budget and this; Python cannot interrupt it inside its C code.
OVERDUE_S = 30.0
_T = TypeVar("_T")


class SlowText(PermanentError):
    """One of the texts needs more CPU time than its budget."""


class EntityReader:
    """Reads one batch at a time through the pipeline, which is not thread-safe."""

    def __init__(self, pipeline: Pipeline) -> None:
        self.pipeline = pipeline
        self._lock = threading.Lock()
        self._overdue_at = math.inf

    def is_alive(self) -> bool:
        """Return whether spaCy is idle, or may still end in time; else restart the process.

        A batch that spaCy never gives back makes all later batches wait.
        """
        return time.monotonic() < self._overdue_at

    async def read(self, texts: Sequence[str]) -> list[Found | None]:
        """Return the entities of each text in order, and None for one past its budget.

        Raises: SlowText if spaCy is past the budget; the caller finds the text by halving.
        """
        chars = sum(min(len(text), MAX_CHARS) for text in texts)
        budget_s = TEXT_CPU_S + chars / _CHARS_PER_CPU_S
        annotating = _Worker(partial(self._annotate, texts, budget_s))
        if not await annotating.ends_within(budget_s):
            raise SlowText("spaCy exceeded its CPU budget for this text")
        [annotated] = annotating.results
        found: list[Found | None] = []
        while len(found) < len(annotated):
            recognizing = _Worker(partial(map, entities_of, annotated[len(found) :]))
            ended = await recognizing.ends_within(TEXT_CPU_S)
            found += recognizing.results
            if not ended and len(found) < len(annotated):
                found.append(None)
        return found

    def _annotate(self, texts: Sequence[str], budget_s: float) -> Iterator[list[Annotated]]:
        with self._lock:
            self._overdue_at = time.monotonic() + 2 * budget_s + OVERDUE_S
            try:
                annotated = self.pipeline.annotate(texts)
            finally:
                self._overdue_at = math.inf
        yield annotated


class _GivenUp(BaseException):
    """Raised inside a worker's thread to end it; no `except Exception` may catch it."""


class _Worker(threading.Thread, Generic[_T]):
    """A thread that makes an iterator and collects what it yields.

    Each batch has its own thread, since one that was given up may go on for a while.
    """

    def __init__(self, make_steps: Callable[[], Iterator[_T]]) -> None:
        super().__init__(name="entities", daemon=True)
        self.results: list[_T] = []
        self._make_steps = make_steps
        self._loop = asyncio.get_running_loop()
        self._ended = asyncio.Event()
        self._failure: Exception | None = None
        self._clock = 0

    def run(self) -> None:
        with suppress(_GivenUp):
            self._clock = time.pthread_getcpuclockid(threading.get_ident())
            results = self.results
            try:
                for result in self._make_steps():
                    results.append(result)
            except Exception as error:  # noqa: BLE001 - it is raised where the batch is awaited
                self._failure = error
            with suppress(RuntimeError):  # the loop is closed, so nobody waits for the result
                self._loop.call_soon_threadsafe(self._ended.set)

    async def ends_within(self, step_cpu_s: float) -> bool:
        """Run to the end, or until a single step has used `step_cpu_s` of CPU time.

        False in the latter case; `results` are then those of the steps before it.
        Raises: what a step raised.
        """
        self.start()
        steps, began_s = -1, 0.0
        while not await wait(self._ended, _LOOK_EVERY_S):
            used_s = self._used_s()
            if len(self.results) != steps:
                steps, began_s = len(self.results), used_s
            elif used_s - began_s > step_cpu_s:
                self._give_up()
                return False
        if self._failure:
            raise self._failure
        return True

    def _used_s(self) -> float:
        """Return the CPU time of the thread; 0 before it starts and after it has ended."""
        try:
            return time.clock_gettime(self._clock) if self._clock else 0.0
        except OSError:
            return 0.0

    def _give_up(self) -> None:
        """Keep the results so far, and end the thread at its next Python instruction."""
        self.results = list(self.results)
        thread = ctypes.c_ulong(self.ident or 0)
        ctypes.pythonapi.PyThreadState_SetAsyncExc(thread, ctypes.py_object(_GivenUp))
