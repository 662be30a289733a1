"""Reading what providers send back besides vectors."""

from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest

from shared.errors import TransientError, Unavailable
from shared.models.outbound import error_of_status, retry_after_s, vectors_of


@pytest.mark.parametrize(
    ("headers", "seconds"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7),
        ({"retry-after": "0.5"}, 0.5),
        ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
        ({"retry-after": "soon"}, None),
        ({"retry-after": "-3"}, None),
        ({"retry-after": "99999999"}, 3600),
        ({"retry-after-ms": "nan"}, None),
    ],
)
def test_retry_after_is_seconds_or_nothing(headers: dict[str, str], seconds: float | None) -> None:
    assert retry_after_s(headers) == seconds


def test_retry_after_may_be_a_date() -> None:
    later = datetime.now(UTC) + timedelta(seconds=30)
    found = retry_after_s({"retry-after": format_datetime(later, usegmt=True)})
    assert found is not None
    assert 25 < found <= 31
    past = format_datetime(later - timedelta(hours=1), usegmt=True)
    assert retry_after_s({"retry-after": past}) == 0


def test_only_short_codes_of_the_provider_are_repeated() -> None:
    error = error_of_status(
        "chat", 429, {"error": {"code": "the whole prompt " * 9, "type": "rate"}}, {}
    )
    assert isinstance(error, Unavailable)
    assert "prompt" not in str(error)
    assert "rate" in str(error)
    assert isinstance(error_of_status("chat", 529, "overloaded", {}), Unavailable)


_SPENT_INFINITELY = b'{"data": [{"index": 0, "embedding": [1]}], "usage": {"prompt_tokens": 1e999}}'


@pytest.mark.parametrize(
    "content", [b"{", b"[]", b'{"data": {"index": ', b"[" * 100_000, _SPENT_INFINITELY]
)
def test_an_answer_without_vectors_may_be_asked_for_again(content: bytes) -> None:
    with pytest.raises(TransientError, match="not a list of vectors"):
        vectors_of(content, 1, 8)
