"""Logs: of a traceback only its places are kept."""

from __future__ import annotations

import pytest

from shared.telemetry import log


def test_frames_name_places_and_quote_nothing() -> None:
    def fail() -> None:
        raise ValueError("the content of a memory")

    with pytest.raises(ValueError, match="content") as caught:
        fail()
    frames = log.frames_of(caught.value)
    assert frames[-1].startswith("test_log.py:")
    assert frames[-1].endswith(" fail")
    assert "content" not in " ".join(frames)
