"""Logs: libraries that quote requests are quiet, and a traceback tells its places only."""

from __future__ import annotations

import logging

import pytest

from shared.telemetry import log


@pytest.mark.parametrize("name", ["httpx", "httpx2", "openai", "qdrant_client"])
def test_libraries_that_log_addresses_and_prompts_are_quiet(name: str) -> None:
    log.configure("DEBUG", role="test", json_lines=True)
    assert not logging.getLogger(name).isEnabledFor(logging.INFO)


def test_frames_name_places_and_quote_nothing() -> None:
    def fail() -> None:
        raise ValueError("the content of a memory")

    with pytest.raises(ValueError, match="content") as caught:
        fail()
    frames = log.frames_of(caught.value)
    assert frames[-1].startswith("test_log.py:")
    assert frames[-1].endswith(" fail")
    assert "content" not in " ".join(frames)
