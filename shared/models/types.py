"""Types that every model module shares."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["embedding", "chat"]
Vectors = NDArray[np.float32]
# US dollars per million input tokens, or (input, output), by model.
Prices = Mapping[str, float | tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """The address of a provider, and the limits of calls to it.

    `concurrency` is how many calls run at once; the others wait. Without `base_url` the provider's
    own address is used.
    """

    api_key: str | None = None
    base_url: str | None = None
    timeout_s: float = 30.0
    concurrency: int = 4
    prices: Prices | None = None
