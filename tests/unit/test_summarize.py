"""The summary: the first sentence, on one line, cut at a word."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.enricher.stages.summarize import MAX_CHARS, summarize


@pytest.mark.parametrize(
    ("content", "summary"),
    [
        ("One thing. Another thing.", "One thing."),
        ("Really? Yes.", "Really?"),
        ("No full stop", "No full stop"),
        ("Met Dr. Carter today. She left.", "Met Dr. Carter today."),
        ("J. R. Smith signed. Done.", "J. R. Smith signed."),
        ("Wir nutzen z. B. Kafka. Seit Mai.", "Wir nutzen z. B. Kafka."),
        ("Use tools, e.g. Kafka. Or not.", "Use tools, e.g. Kafka."),
        ("Er kommt am 3. Mai. Danach nicht.", "Er kommt am 3. Mai."),
        ("Version 2.3.1 is out. Good.", "Version 2.3.1 is out."),
        ('He said "Stop." Then he left.', 'He said "Stop."'),
        ("„Das reicht.“ Er ging.", "„Das reicht.“"),
        ("今日は晴れ。明日は雨。", "今日は晴れ。"),
        ("Broken\nover lines. Next.", "Broken over lines."),
        ("# A heading\n\nThe body follows.", "A heading"),
        ("- first point. second", "first point. second"),
        ("  Spaces   and\ttabs.  ", "Spaces and tabs."),
    ],
)
def test_first_sentence(content: str, summary: str) -> None:
    assert summarize(content) == summary


@pytest.mark.parametrize("content", ["", "   ", "\n\n", "...", "—"])
def test_nothing_to_say(content: str) -> None:
    assert summarize(content) is None


def test_a_long_sentence_is_cut_at_a_word() -> None:
    summary = summarize("word " * 100)
    assert summary is not None
    assert len(summary) <= MAX_CHARS
    assert summary.endswith("word…")
    assert summarize("y" * 240) == "y" * 240
    assert summarize("z" * 241) == "z" * 239 + "…"


@given(st.text(max_size=600))
def test_any_text(content: str) -> None:
    summary = summarize(content)
    assert summary is None or (0 < len(summary) <= MAX_CHARS and "\n" not in summary)
