"""Muon for stacks of matrices: experts and convolution kernels too, which torch's own does not take."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
_STEPS = 5


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal, at the step size that AdamW would have.

    Source: Jordan et al. 2024, "Muon: An optimizer for hidden layers"; the scale is Moonlight's (Liu et al. 2025).
    """

    def __init__(
        self, parameters: Iterable[nn.Parameter], lr: float, momentum: float = 0.95, weight_decay: float = 0.01
    ) -> None:
        super().__init__(parameters, {"lr": lr, "momentum": momentum, "weight_decay": weight_decay})

    @torch.no_grad()
    def step(self, closure: None = None) -> None:  # type: ignore[override]
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                momentum = state.setdefault("momentum", torch.zeros_like(parameter))
                momentum.lerp_(parameter.grad, 1 - group["momentum"])
                update = _as_matrices(parameter.grad.lerp(momentum, group["momentum"]))
                update = _orthogonal(update).view_as(parameter)
                scale = 0.2 * max(_as_matrices(parameter).shape[-2:]) ** 0.5
                parameter.mul_(1 - group["lr"] * group["weight_decay"]).add_(update, alpha=-group["lr"] * scale)


def _as_matrices(weight: Tensor) -> Tensor:
    """A kernel's input channels and pixels are one dimension; experts stay a stack."""
    return weight.flatten(1) if weight.ndim == 4 else weight


def _orthogonal(matrices: Tensor) -> Tensor:
    """Newton-Schulz iteration in bfloat16."""
    a, b, c = _COEFFICIENTS
    x = matrices.to(torch.bfloat16)
    is_tall = x.shape[-2] > x.shape[-1]
    x = x.mT if is_tall else x
    x = x / (x.norm(dim=(-2, -1), keepdim=True) + 1e-7)
    for _ in range(_STEPS):
        gram = x @ x.mT
        x = a * x + (b * gram + c * gram @ gram) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
