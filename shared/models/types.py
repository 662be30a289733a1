"""Types that every model module shares."""

from __future__ import annotations

from typing import Literal

import numpy as np
from numpy.typing import NDArray

Kind = Literal["embedding", "chat"]


Vectors = NDArray[np.float32]
