"""The feed-forward layers of the decoders: dense, and mixtures of experts."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from engine import kernels
from engine.linear import Linears, stack
from engine.models.pointwise import swiglu


class FeedForward:
    """SwiGLU with gate and up in one product: `[num_tokens, hidden_size]` to the same."""

    def __init__(self, module: Any, linears: Linears) -> None:
        self.gate_up = linears.fuse(module.gate_proj, module.up_proj)
        self.down = linears.fuse(module.down_proj)

    def __call__(self, x: Tensor) -> Tensor:
        out: Tensor = self.down(swiglu(self.gate_up(x)))
        return out


class Experts:
    """DeepSeek's mixture: some experts chosen for each token, and one that all share.

    The rows of each chosen expert are computed together; the others' weights are not touched.
    """

    def __init__(self, module: Any, linears: Linears) -> None:
        self._gate = module.gate
        self._shared = FeedForward(module.shared_experts, linears)
        experts = module.experts
        self._experts = [
            (linears.make(gate_up), linears.make(down))
            for gate_up, down in zip(experts.gate_up_proj.detach(), experts.down_proj.detach(), strict=True)
        ]
        self._stacks = tuple(stack(layers) for layers in zip(*self._experts, strict=True))
        self._max_rows = linears.max_rows

    def __call__(self, x: Tensor) -> Tensor:
        _, weights, chosen = self._gate(x)
        return self._shared(x) + _mixed(self._compute_chosen(x, chosen), weights).to(x.dtype)

    def _compute_chosen(self, x: Tensor, chosen: Tensor) -> Tensor:
        """What the chosen experts make of each token: `[num_tokens · num_chosen, hidden_size]`, token by token."""
        gate_up, down = self._stacks
        # With several threads each product is better shared among these.
        if gate_up and down and len(x) <= self._max_rows and torch.get_num_threads() == 1:
            return kernels.experts_of_rows(x, chosen, gate_up, down)
        if len(x) == 1:
            return torch.cat([self._compute(expert, x) for expert in chosen[0].tolist()])
        # The choices sorted by expert: the rows of each are neighbours.
        order = chosen.flatten().argsort(stable=True)
        rows = order.div(chosen.shape[-1], rounding_mode="floor")
        counts = chosen.flatten().bincount(minlength=len(self._experts)).tolist()
        parts = torch.split(x[rows], counts)
        computed = [self._compute(expert, part) for expert, part in enumerate(parts) if len(part)]
        return torch.cat(computed)[order.argsort()]

    def _compute(self, expert: int, x: Tensor) -> Tensor:
        gate_up, down = self._experts[expert]
        out: Tensor = down(swiglu(gate_up(x)))
        return out


def grouped_products(weight: Tensor) -> bool:
    """Whether torch multiplies groups of rows at once without waiting: bfloat16, on GPUs of compute capability 9 or 10.

    On others it waits for the sizes of the groups, and multiplies one after the other.
    """
    is_new = weight.is_cuda and torch.cuda.get_device_capability(weight.device)[0] in (9, 10)
    return is_new and weight.dtype == torch.bfloat16


class GroupedExperts:
    """The same for GPUs that can: one product over all experts, and nothing that waits for the device."""

    def __init__(self, module: Any, linears: Linears) -> None:
        self._gate = module.gate
        self._shared = FeedForward(module.shared_experts, linears)
        # [num_experts, hidden_size, 2 · size] and [num_experts, size, hidden_size]
        self._gate_up = module.experts.gate_up_proj.detach().mT
        self._down = module.experts.down_proj.detach().mT

    def __call__(self, x: Tensor) -> Tensor:
        _, weights, chosen = self._gate(x)
        order = chosen.flatten().argsort(stable=True)
        rows = order.div(chosen.shape[-1], rounding_mode="floor")
        experts = torch.arange(len(self._down), device=x.device)
        ends = (chosen.flatten()[:, None] == experts).sum(0).cumsum(0).to(torch.int32)
        gate_up = F.grouped_mm(x[rows], self._gate_up, offs=ends)
        computed = F.grouped_mm(swiglu(gate_up), self._down, offs=ends)
        return self._shared(x) + _mixed(computed[order.argsort()], weights).to(x.dtype)


def _mixed(computed: Tensor, weights: Tensor) -> Tensor:
    """What the experts of each token say together, always summed in the same order.

    Args:
        computed: `[num_tokens · num_chosen, hidden_size]`, token by token.
        weights: `[num_tokens, num_chosen]`.
    """
    return (computed.view(*weights.shape, -1) * weights[..., None]).sum(1)
