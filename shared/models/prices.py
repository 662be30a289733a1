"""Count the tokens and the cost in US dollars of each model's calls."""

from __future__ import annotations

from typing import Final

from shared.models.types import Prices
from shared.telemetry.metrics import MODEL_COST, MODEL_TOKENS

# List prices as of November 2026, without batch discounts and free allowances. Models that are
# not listed (local servers, private models) are counted in tokens only.
# OpenAI: platform.openai.com/docs/pricing. Voyage: docs.voyageai.com/docs/pricing.
PRICES: Final[Prices] = {
    "text-embedding-3-small": 0.02,
    "text-embedding-3-large": 0.13,
    "gpt-4o-mini": (0.15, 0.60),
    "voyage-4-large": 0.12,
    "voyage-4": 0.06,
    "voyage-4-lite": 0.02,
    "voyage-3-large": 0.18,
    "voyage-3.5": 0.06,
    "voyage-3.5-lite": 0.02,
    "voyage-code-3": 0.18,
}


class Meter:
    """Counts one model's tokens, and their cost where its price is known.

    `prices` (EUNOE_MODEL_PRICES) take precedence over the list: dollars per million input
    tokens, or (input, output).
    """

    def __init__(self, model: str, prices: Prices | None = None) -> None:
        self._model = model
        given = {**PRICES, **(prices or {})}.get(model)
        self._price = (given, 0.0) if isinstance(given, float | int) else given

    def spent(self, *, input: int, output: int = 0) -> None:  # noqa: A002 (the metric's word)
        for direction, tokens in (("input", input), ("output", output)):
            if tokens > 0:
                MODEL_TOKENS.labels(model=self._model, direction=direction).inc(tokens)
        if self._price:
            cost = input * self._price[0] + output * self._price[1]
            MODEL_COST.labels(model=self._model).inc(max(0.0, cost) / 1_000_000)
