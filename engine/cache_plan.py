"""How large the key-value cache is, and how long a sequence may get in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass

from engine.cache import BLOCK_SIZE
from engine.checkpoint import Checkpoint
from engine.config import EngineConfig
from engine.errors import LoadError
from engine.machine import available_bytes

logger = logging.getLogger(__name__)

_SHARE = 0.4
"""Of the memory that is available once the weights are loaded: two models share it, each with its activations."""


@dataclass(frozen=True, slots=True)
class CachePlan:
    """Size of the cache."""

    num_tokens: int
    max_context: int


def plan_cache(checkpoint: Checkpoint, config: EngineConfig) -> CachePlan:
    """Fit the cache into the memory there is; never more than all sequences at full length could use.

    Without `max_context` in the settings, one that does not fit is lowered to what does.

    Raises:
        LoadError: what the settings ask for does not fit.
    """
    token_bytes = checkpoint.decoder.cache_shape.token_bytes(checkpoint.dtype)
    size_bytes = available_bytes(checkpoint.device) * _SHARE if config.cache_gib is None else config.cache_gib * 2**30
    fitting = int(size_bytes / token_bytes) // BLOCK_SIZE * BLOCK_SIZE
    max_context = checkpoint.max_context
    if fitting < max_context:
        if config.max_context is not None or fitting < BLOCK_SIZE:
            raise LoadError(
                f"{size_bytes / 2**30:.2f} GiB of cache hold {fitting} tokens of {checkpoint.name}, less than one "
                f"context of {max_context}; set cache_gib to {max_context * token_bytes / 2**30:.2f} or lower it."
            )
        logger.warning("max_context is %d, not %d: more does not fit into the cache", fitting, max_context)
        max_context = fitting
    longest = -(-max_context // BLOCK_SIZE) * BLOCK_SIZE
    return CachePlan(min(fitting, config.max_sequences * longest), max_context)
