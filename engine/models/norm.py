"""The norm that all decoders share."""

from __future__ import annotations

from typing import Any

import torch.nn.functional as F
from torch import Tensor


def rms_norm(x: Tensor, norm: Any) -> Tensor:
    """Root mean square norm over the last dimension, with the weight of transformers' module."""
    return F.rms_norm(x, (x.shape[-1],), norm.weight, norm.variance_epsilon)
