"""Meter: a model's tokens and what they cost."""

import pytest
from prometheus_client import REGISTRY

from shared.config import EmbeddingSettings
from shared.models.prices import Meter


def cost(model: str) -> float:
    return REGISTRY.get_sample_value("eunoe_model_cost_usd_total", {"model": model}) or 0.0


def tokens(model: str, direction: str) -> float:
    labels = {"model": model, "direction": direction}
    return REGISTRY.get_sample_value("eunoe_model_tokens_total", labels) or 0.0


def test_input_and_output_have_their_own_price() -> None:
    before = cost("gpt-4o-mini")
    Meter("gpt-4o-mini").spent(input=1_000_000, output=2_000_000)
    assert cost("gpt-4o-mini") - before == pytest.approx(0.15 + 1.20)


def test_the_environment_outranks_the_list() -> None:
    settings = EmbeddingSettings(
        _env_file=None, EUNOE_MODEL_PRICES='{"voyage-4": 1, "priced": [2, 3]}'
    )
    Meter("priced", settings.prices).spent(input=1_000_000, output=1_000_000)
    assert cost("priced") == pytest.approx(5)
    before = cost("voyage-4")
    Meter("voyage-4", settings.prices).spent(input=500_000)
    assert cost("voyage-4") - before == pytest.approx(0.5)


def test_a_model_without_a_price_costs_nothing_and_nonsense_is_not_counted() -> None:
    Meter("unpriced").spent(input=5, output=-5)
    assert (cost("unpriced"), tokens("unpriced", "input"), tokens("unpriced", "output")) == (
        0,
        5,
        0,
    )


@pytest.mark.parametrize("given", ["dear", "[1]", '{"m": -1}', '{"m": "x"}', '{"m": [1, 2, 3]}'])
def test_a_wrong_price_is_refused_by_its_name(given: str) -> None:
    with pytest.raises(ValueError, match="EUNOE_MODEL_PRICES"):
        EmbeddingSettings(_env_file=None, EUNOE_MODEL_PRICES=given)
