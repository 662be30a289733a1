"""Query parameters as values."""

from __future__ import annotations

import pytest

from services.api.http.query import flag
from shared.errors import InvalidInput


@pytest.mark.parametrize(
    ("given", "taken"),
    [
        *((text, True) for text in ("1", "true", "yes", "y", "on", "Y")),
        *((text, False) for text in ("0", "false", "no", "n", "off", "N")),
    ],
)
def test_a_flag_takes_automems_words(given: str, taken: bool) -> None:
    assert flag({"force": given}, "force", default=not taken) is taken


@pytest.mark.parametrize("given", ["maybe", "t", "2"])
def test_another_word_is_refused(given: str) -> None:
    with pytest.raises(InvalidInput, match="'force' must be true or false"):
        flag({"force": given}, "force", default=False)
