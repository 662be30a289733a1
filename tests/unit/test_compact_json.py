"""compact_json: no spaces, no escapes beyond what JSON needs."""

from __future__ import annotations

from datetime import date

import pytest

from shared.compact_json import compact_json


def test_it_writes_no_spaces_and_keeps_every_script() -> None:
    assert compact_json({"a": [1, "Ω\n"], "b": None}) == '{"a":[1,"Ω\\n"],"b":null}'


def test_what_json_has_no_type_for_is_converted_or_refused() -> None:
    assert compact_json([date(2026, 1, 2)], default=str) == '["2026-01-02"]'
    with pytest.raises(TypeError):
        compact_json([date(2026, 1, 2)])


def test_numbers_that_are_not_finite_can_be_refused() -> None:
    assert compact_json(float("nan")) == "NaN"
    with pytest.raises(ValueError, match="not JSON compliant"):
        compact_json(float("nan"), allow_nan=False)
