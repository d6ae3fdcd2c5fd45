"""Numbers on their way to the device and back."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor


def to_device(
    values: Sequence[int] | Sequence[float] | Sequence[Sequence[int]],
    device: torch.device,
    dtype: torch.dtype = torch.long,
) -> Tensor:
    """A tensor of these numbers, which does not wait for what a GPU is computing."""
    if device.type == "cpu":
        return torch.tensor(values, dtype=dtype)
    return torch.tensor(values, dtype=dtype, pin_memory=True).to(device, non_blocking=True)


class Copied:
    """Tensors on their way back, read behind nothing launched from now on."""

    def __init__(self, *tensors: Tensor) -> None:
        self._tensors = tensors
        self._event = None
        if tensors[0].is_cuda:
            self._tensors = tuple(torch.empty_like(tensor, device="cpu", pin_memory=True) for tensor in tensors)
            for copy, tensor in zip(self._tensors, tensors, strict=True):
                copy.copy_(tensor, non_blocking=True)
            self._event = torch.cuda.current_stream().record_event()

    def read(self) -> tuple[Tensor, ...]:
        """Wait for them; on the CPU."""
        if self._event:
            self._event.synchronize()
        return self._tensors
