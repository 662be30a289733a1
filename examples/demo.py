"""`make demo FILE=…`: store a conversation in a running stack, wait, and ask it questions.

Reads our own format (see moving-house.json) and LoCoMo's. The stack is found through
$EUNOE_DATA_DIR/stack.json, or EUNOE_URL; AUTOMEM_API_TOKEN is sent where set.
"""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp

_TURN_S = 20
_CONNECTIONS = 8
_QUESTIONS = 5
_PATIENCE_S = 600
_BAR = 30


@dataclass(frozen=True, slots=True)
class Conversation:
    title: str
    turns: list[dict[str, Any]]
    questions: list[str]


def read(path: Path) -> Conversation:
    raw = json.loads(path.read_text(encoding="utf-8"))
    if "sessions" in raw:
        turns = [turn for session in raw["sessions"] for turn in _own_turns(session)]
        return Conversation(raw.get("title", path.stem), _tagged(turns, path), raw["questions"])
    questions = [row["question"] for row in raw["qa"] if row.get("category") in (1, 2, 4)]
    spread = questions[:: max(1, len(questions) // _QUESTIONS)][:_QUESTIONS]
    return Conversation(path.stem, _tagged(list(_locomo_turns(raw)), path), spread)


def _own_turns(session: dict[str, Any]) -> Iterator[dict[str, Any]]:
    began = datetime.fromisoformat(session["date"])
    for number, (speaker, text) in enumerate(session["turns"]):
        yield _turn(session["id"], speaker, text, began, number)


def _locomo_turns(raw: dict[str, Any]) -> Iterator[dict[str, Any]]:
    numbers = sorted(int(m[1]) for key in raw if (m := re.fullmatch(r"session_(\d+)", key)))
    for session in numbers:
        began = datetime.strptime(
            raw[f"session_{session}_date_time"], "%I:%M %p on %d %B, %Y"
        ).replace(tzinfo=UTC)
        for number, turn in enumerate(raw[f"session_{session}"]):
            yield _turn(f"session-{session}", turn["speaker"], turn["text"], began, number)


def _turn(session: str, speaker: str, text: str, began: datetime, number: int) -> dict[str, Any]:
    return {
        "content": f"{speaker}: {text}",
        "timestamp": (began + timedelta(seconds=_TURN_S * number)).isoformat(),
        "session_id": session,
        "metadata": {"speaker": speaker},
    }


def _tagged(turns: list[dict[str, Any]], path: Path) -> list[dict[str, Any]]:
    """Each run is a conversation of its own, so that a second one does not meet the first."""
    run = f"demo:{path.stem}:{int(time.time())}"
    return [turn | {"tags": [run], "session_id": f"{run}:{turn['session_id']}"} for turn in turns]


def address() -> str:
    given = os.environ.get("EUNOE_URL")
    if given:
        return given.rstrip("/")
    stack = Path(os.environ.get("EUNOE_DATA_DIR", ".eunoe")) / "stack.json"
    try:
        processes = json.loads(stack.read_text())["processes"]
    except OSError:
        sys.exit(f"No running stack ({stack} is missing). Start one with `make run`.")
    port = next(each["ports"]["http"] for each in processes if each["role"] == "api")
    return f"http://127.0.0.1:{port}"


def bar(label: str, done: int, total: int, began: float) -> None:
    filled = _BAR * done // max(1, total)
    line = f"\r{label:<10} [{'#' * filled}{'.' * (_BAR - filled)}] {done}/{total}"
    end = "\n" if done >= total else ""
    if sys.stdout.isatty() or end:
        print(f"{line}  {time.monotonic() - began:5.1f} s", end=end, flush=True)


async def store(http: aiohttp.ClientSession, turns: list[dict[str, Any]]) -> list[str]:
    began, queue, ids = time.monotonic(), iter(turns), []

    async def worker() -> None:
        for turn in queue:
            async with http.post("/memory", json=turn) as answer:
                body = await answer.json()
                if answer.status != 201:
                    sys.exit(f"Storing failed with {answer.status}: {body.get('message')}")
            ids.append(body["memory_id"])
            bar("stored", len(ids), len(turns), began)

    await asyncio.gather(*(worker() for _ in range(_CONNECTIONS)))
    return ids


async def wait_done(http: aiohttp.ClientSession, ids: list[str]) -> None:
    """Until every memory is enriched, embedded and related, as each one says itself."""
    began, waiting = time.monotonic(), list(ids)
    while waiting:
        waiting = [key for key in waiting if not await _finished(http, key)]
        bar("processed", len(ids) - len(waiting), len(ids), began)
        if time.monotonic() - began > _PATIENCE_S:
            sys.exit(f"{len(waiting)} memories are still not processed; see GET /health")
        if waiting:
            await asyncio.sleep(0.2)


async def _finished(http: aiohttp.ClientSession, memory_id: str) -> bool:
    async with http.get(f"/memory/{memory_id}") as answer:
        memory = (await answer.json())["memory"]
    return bool(memory["enriched"] and memory["embedded"] and memory["related"])


async def ask(http: aiohttp.ClientSession, question: str, tag: str) -> None:
    params = {"query": question, "tags": tag, "tag_match": "exact", "limit": "3"}
    async with http.get("/recall", params=params) as answer:
        body = await answer.json()
    print(f"\n? {question}  ({body['query_time_ms']:.0f} ms)")
    for row in body["results"]:
        day = row["memory"]["timestamp"][:10]
        print(f"  {row['score']:.3f}  {day}  {row['memory']['content']}")


async def main(path: Path) -> None:
    conversation = read(path)
    token = os.environ.get("AUTOMEM_API_TOKEN")
    headers = {"Authorization": f"Bearer {token}"} if token else {}
    timeout = aiohttp.ClientTimeout(total=60)
    async with aiohttp.ClientSession(address(), headers=headers, timeout=timeout) as http:
        print(f"{conversation.title}: {len(conversation.turns)} turns")
        ids = await store(http, conversation.turns)
        await wait_done(http, ids)
        for question in conversation.questions:
            await ask(http, question, conversation.turns[0]["tags"][0])


if __name__ == "__main__":
    default = Path(__file__).with_name("moving-house.json")
    asyncio.run(main(Path(sys.argv[1]) if len(sys.argv) > 1 else default))
