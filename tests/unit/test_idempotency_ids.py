"""The ids of a write: fixed by its first one, so that a repeat writes under the same."""

from __future__ import annotations

from uuid import UUID

from services.api.http.answers import Success
from services.api.memory.idempotency import Write


def test_a_writes_ids_follow_from_its_first() -> None:
    first = Write("default")
    again = Write("default", id=first.id)
    ids = first.ids(500)
    assert ids[0] == first.id
    assert ids == again.ids(500)
    assert ids[:3] == again.ids(3)
    assert len(set(ids)) == 500
    assert {UUID(each).version for each in ids} == {4}


def test_two_writes_share_no_id() -> None:
    assert not {*Write("default").ids(100)} & {*Write("default").ids(100)}


def test_without_a_key_no_answer_is_kept() -> None:
    write = Write("default")
    assert write.keep([write.id], Success) is None
    assert write.kept is None
