"""Count the tokens and the cost in US dollars of each model's calls."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, NamedTuple

from shared.models.types import Prices
from shared.telemetry.metrics import MODEL_COST, MODEL_TOKENS


class Price(NamedTuple):
    """US dollars per million tokens."""

    input: float
    output: float = 0.0


# List prices as of November 2026, without batch discounts and free allowances. Models that are
# not listed (local servers, private models) are counted in tokens only.
# OpenAI: platform.openai.com/docs/pricing. Voyage: docs.voyageai.com/docs/pricing.
PRICES: Final[Mapping[str, Price]] = {
    "text-embedding-3-small": Price(0.02),
    "text-embedding-3-large": Price(0.13),
    "gpt-4o-mini": Price(0.15, 0.60),
    "voyage-4-large": Price(0.12),
    "voyage-4": Price(0.06),
    "voyage-4-lite": Price(0.02),
    "voyage-3-large": Price(0.18),
    "voyage-3.5": Price(0.06),
    "voyage-3.5-lite": Price(0.02),
    "voyage-code-3": Price(0.18),
}


class Meter:
    """Counts one model's tokens, and their cost where its price is known.

    `prices` (EUNOE_MODEL_PRICES) take precedence over the list: dollars per million input
    tokens, or (input, output).
    """

    def __init__(self, model: str, prices: Prices | None = None) -> None:
        self._model = model
        given = (prices or {}).get(model)
        if given is None:
            self._price = PRICES.get(model)
        else:
            self._price = Price(*given) if isinstance(given, tuple) else Price(given)

    def spent(self, *, input: int, output: int = 0) -> None:  # noqa: A002 (the metric's word)
        for direction, tokens in (("input", input), ("output", output)):
            if tokens > 0:
                MODEL_TOKENS.labels(model=self._model, direction=direction).inc(tokens)
        if self._price:
            cost = input * self._price.input + output * self._price.output
            MODEL_COST.labels(model=self._model).inc(max(0.0, cost) / 1_000_000)
