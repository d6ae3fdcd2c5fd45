"""What a model says of itself."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from typing import Any

import orjson

from adapter.errors import BrokenAnswer


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU that the model runs on; `index` is as its process counts, `uuid` the same for every process."""

    index: int
    uuid: str
    name: str
    total_bytes: int
    free_bytes: int
    compute_capability: str
    driver_version: str | None
    cuda_version: str | None


@dataclass(frozen=True)
class Description:
    """What a model says it is."""

    version: str
    checkpoint: str
    architecture: str
    device: str
    dtype: str
    quantization: str | None
    max_context: int
    max_sequences: int
    num_parameters: int
    gpus: Sequence[Gpu]

    @cached_property
    def fingerprint(self) -> str:
        """OpenAI's `system_fingerprint`: while it is the same, so is the text of a seed."""
        names = sorted(gpu.name for gpu in self.gpus)
        what = self.version, self.checkpoint, self.architecture, self.dtype, self.quantization
        parts = *what, self.device, names
        return f"fp_{hashlib.sha256(orjson.dumps(parts)).hexdigest()[:10]}"


def parse_description(text: str) -> Description:
    """Raises `BrokenAnswer` where something is missing."""
    try:
        given = orjson.loads(text)
        known = {field.name: given[field.name] for field in fields(Description)}
        return Description(**known | {"gpus": [_gpu(gpu) for gpu in given["gpus"]]})
    except (ValueError, TypeError, KeyError) as error:
        raise BrokenAnswer(f"the model's description of itself is not understood: {error!r}") from error


def _gpu(given: dict[str, Any]) -> Gpu:
    return Gpu(**{field.name: given[field.name] for field in fields(Gpu)})
