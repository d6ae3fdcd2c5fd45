"""The model in training: transformers' modules, with attention that is fast on a CPU and losses that point the way.

Three things are taught beside the text: what characters each patch and each cell of a view holds, where the next
character stands (linear heads, which are thrown away afterwards), and where to look (`LOOKS`: some of the decoder's
attention heads).
"""

from __future__ import annotations

import json
import math
from pathlib import Path
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, AutoModelForImageTextToText, PreTrainedTokenizerFast

from demo.ocr.config import make_config
from demo.ocr.data import IGNORED, PATCH_SIDE, PATCH_SLOTS, Batch
from demo.ocr.maker import VIEW_SIDE
from demo.ocr.tokenizer import IMAGE
from engine.images import TOKEN_SIDE
from engine.models.deepseek_ocr_config import translate

LOOKS = {
    0: ("one before", "two before"),
    1: ("here", "one before"),
    2: ("next", "here", "one before"),
    3: ("next",),
}
"""Where the first heads of each layer of the decoder learn to look: at the characters just read, which tell where on
the page it is; at the cell of the last of them; at the cell of the next one."""
WEIGHTS = {"text": 1.0, "cells": 0.5, "patches": 0.5, "looks": 0.3, "places": 0.3, "grid": 0.2, "balance": 0.01}
EMPTY_SHARE = 0.03
SLOT_WIDTH = 64
PLACES, GRID = VIEW_SIDE // PATCH_SIDE, VIEW_SIDE // TOKEN_SIDE
"""Steps in which a view's sides are told: of its characters, and of its cells."""
BIAS_LENGTH = 10.0
_ATTENTION = "batched_matmul"


class _Attention(torch.autograd.Function):
    """Softmax attention whose backward pass, in bfloat16 on a CPU, takes a third of autograd's own."""

    @staticmethod
    def forward(ctx: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None) -> Tensor:
        scores = query @ key.mT if mask is None else torch.baddbmm(mask.expand(len(query), -1, -1), query, key.mT)
        shares = scores.softmax(-1)
        output = shares @ value
        ctx.save_for_backward(query, key, value, shares, output)
        return output

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor, Tensor, Tensor, None]:
        query, key, value, shares, output = ctx.saved_tensors
        (gradient,) = gradients
        of_scores = gradient @ value.mT
        of_scores.sub_((gradient * output).sum(-1, keepdim=True)).mul_(shares)
        return of_scores @ key, of_scores.mT @ query, shares.mT @ gradient, None


def attend(query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None = None) -> Tensor:
    """`[rows, heads, length, dim]`, the queries already scaled; `mask` is `[length, length]`."""
    rows, heads = query.shape[:2]
    query, key, value = (part.flatten(0, 1) for part in (query, key, value))
    output: Tensor = _Attention.apply(query, key, value, mask)  # type: ignore[no-untyped-call]
    return output.unflatten(0, (rows, heads))


class SlotHead(nn.Module):
    """Tells the characters of a unit's slots; the slots share what tells characters apart."""

    def __init__(self, width: int, num_slots: int, vocab_size: int) -> None:
        super().__init__()
        self.of_slot = nn.Linear(width, num_slots * SLOT_WIDTH)
        self.of_token = nn.Linear(SLOT_WIDTH, vocab_size)

    def forward(self, units: Tensor, chosen: Tensor) -> Tensor:
        """`[rows, units, width]` and `[rows, units, slots]` to `[number of chosen slots, vocabulary]`."""
        has_any = chosen.any(-1)
        slots: Tensor = self.of_slot(units[has_any])
        logits: Tensor = self.of_token(slots.view(len(slots), -1, SLOT_WIDTH)[chosen[has_any]])
        return logits


class Trainee(nn.Module):
    """The checkpoint's model and what only the training needs."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast) -> None:
        super().__init__()
        self.config = make_config(len(tokenizer))
        config = translate(self.config, tokenizer.convert_tokens_to_ids(IMAGE))
        self.model = AutoModelForImageTextToText.from_config(config, dtype=torch.float32)
        self.pad = tokenizer.pad_token_id
        sam_width, hidden_size = config.vision_config.sam_config.hidden_size, config.text_config.hidden_size
        self.patch_head = SlotHead(sam_width, PATCH_SLOTS, len(tokenizer))
        self.cell_head = SlotHead(hidden_size, PATCH_SLOTS * (TOKEN_SIDE // PATCH_SIDE) ** 2, len(tokenizer))
        self._patches = torch.empty(0)
        self._looks: list[tuple[str, Tensor]] = []
        self._balance: list[Tensor] = []
        self._num_text_tokens = 0
        self._states: list[Tensor] = []
        self._initialise()
        self._use_fast_attention()
        layers = self.model.model.language_model.layers[1:]
        self.grid_head = nn.Linear(hidden_size, 2 * GRID)
        self.place_heads = nn.ModuleList(nn.Linear(hidden_size, 2 * PLACES) for _ in layers)
        for layer in layers:
            layer.register_forward_hook(self._note_state)

    def forward(self, batch: Batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss to descend, and its parts for the eye."""
        side = batch.views.shape[-1] // TOKEN_SIDE
        self._looks, self._balance, self._states, self._num_text_tokens = [], [], [], batch.ids.shape[1]
        views = batch.views.to(torch.bfloat16).mul_(1 / 127.5).sub_(1)
        cells = self.model.model.multi_modal_projector(self.model.model.vision_tower(views).last_hidden_state)
        losses = {
            "cells": self._slot_loss(self.cell_head, cells, _by_cell(batch.slots)),
            "patches": self._slot_loss(self.patch_head, self._patches.flatten(1, 2), batch.slots.flatten(1, 2)),
            "grid": self._grid_loss(cells, side),
        }
        if batch.ids.numel():
            logits = self.model.lm_head(self._decode(cells.view(len(views), side, side, -1), batch.ids)).float()
            losses |= {
                "text": functional.cross_entropy(logits.flatten(0, 1), batch.labels.flatten(), ignore_index=IGNORED),
                "looks": self._look_loss(_cells_of(batch.places, side), side),
                "balance": torch.stack(self._balance).mean(),
                "places": self._place_loss(batch.places, side * TOKEN_SIDE // PATCH_SIDE),
            }
        total = torch.stack([WEIGHTS[name] * loss for name, loss in losses.items()]).sum()
        return total, losses

    def _decode(self, grid: Tensor, ids: Tensor) -> Tensor:
        """`[rows, side, side, hidden]` and `[rows, length]` to the text's last states, `[rows, length, hidden]`."""
        core, rows, side = self.model.model, len(grid), grid.shape[1]
        newline = core.image_newline.expand(rows, side, 1, -1)
        embed = core.get_input_embeddings()
        start = embed.weight[self.config["language_config"]["bos_token_id"]].expand(rows, 1, -1)
        separator = core.view_separator.expand(rows, 1, -1)
        image = torch.cat((grid, newline.to(grid.dtype)), dim=2).flatten(1, 2)
        sequence = torch.cat((start, image, separator, embed(ids)), dim=1)
        states: Tensor = core.language_model(inputs_embeds=sequence, use_cache=False).last_hidden_state
        return states[:, -ids.shape[1] :]

    def _slot_loss(self, head: SlotHead, units: Tensor, slots: Tensor) -> Tensor:
        """`[rows, units, width]` and `[rows, units, slots]`. Of the empty slots, most of a page, only a few count."""
        chosen = (slots != self.pad) | (torch.rand(slots.shape) < EMPTY_SHARE)
        return functional.cross_entropy(head(units, chosen).float(), slots[chosen])

    def _look_loss(self, cells: Tensor, side: int) -> Tensor:
        """Cross entropy of the attention of the heads in `LOOKS`, wherever the next character stands on the page."""
        known = cells != IGNORED
        _, row = known.nonzero(as_tuple=True)
        start = 1 + side * (side + 1) + 1  # of the text: behind BOS, the image and its separator
        next_ones = 1 + cells + cells // side  # each row of embeddings ends with a newline's
        here = torch.cat((next_ones[:, :1], next_ones[:, :-1]), dim=1)
        here_is_known = torch.cat((known[:, :1], known[:, :-1]), dim=1)[known]
        targets = {
            "one before": start + row - 1,
            "two before": start + row - 2,
            "here": torch.where(here_is_known, here[known], IGNORED),
            "next": next_ones[known],
        }
        losses = [
            functional.cross_entropy(scores[known].float(), targets[look], ignore_index=IGNORED)
            for look, scores in self._looks
        ]
        return torch.stack(losses).mean()

    def _grid_loss(self, cells: Tensor, side: int) -> Tensor:
        """Cross entropy of each cell's own row and column: the decoder has to know where it looks."""
        places = torch.arange(side * side)
        targets = torch.stack((places // side, places % side), dim=1) * GRID // side
        logits = self.grid_head(cells).float().view(-1, GRID)
        return functional.cross_entropy(logits, targets.flatten().repeat(len(cells)))

    def _place_loss(self, places: Tensor, side: int) -> Tensor:
        """Cross entropy of the row and the column where the next character stands, after each layer."""
        known = places != IGNORED
        targets = (torch.stack((places[known] // side, places[known] % side), dim=1) * PLACES // side).flatten()
        losses = [
            functional.cross_entropy(head(states[known]).float().view(-1, PLACES), targets)
            for head, states in zip(self.place_heads, self._states, strict=True)
        ]
        return torch.stack(losses).mean()

    def _initialise(self) -> None:
        """Fan-in initialisation, but for what an image is first seen with.

        A patch starts as its cosine transform, less that of white paper, so that ink stands out and a glyph that has
        moved a little looks much the same.
        """
        decoder_depth = 2 * self.config["language_config"]["num_hidden_layers"]
        for name, weight in self.named_parameters():
            if weight.ndim >= 2 and "embed" not in name and "pos" not in name:
                fan_in = weight[0].numel() if weight.ndim != 3 else weight.shape[-1]
                ends_branch = name.endswith(
                    ("o_proj.weight", "down_proj.weight", "down_proj", "lin2.weight", "fc2.weight")
                )
                nn.init.normal_(weight, std=(fan_in * (decoder_depth if ends_branch else 1)) ** -0.5)
        core = self.model.model
        nn.init.normal_(core.get_input_embeddings().weight, std=0.5)
        for embedding in (core.image_newline, core.view_separator):
            nn.init.normal_(embedding, std=0.5)
        tower = core.vision_tower
        positions = tower.vision_encoder.embeddings.position_embedding.weight
        with torch.no_grad():
            positions[1:] = _waves(GRID, positions.shape[1])
        projection = tower.sam_encoder.patch_embed.projection
        with torch.no_grad():
            projection.weight.copy_(_cosines(*projection.weight.shape[:2], projection.weight.shape[-1]))
            projection.bias.copy_(-0.8 * projection.weight.sum((1, 2, 3)))

        for layer in tower.sam_encoder.layers:
            _look_at_neighbours(layer.attn)

    def _use_fast_attention(self) -> None:
        AttentionInterface.register(_ATTENTION, self._attend)
        core = self.model.model
        core.language_model.config._attn_implementation = _ATTENTION
        core.vision_tower.vision_encoder.config._attn_implementation = _ATTENTION
        self.model.set_experts_implementation("eager")
        for layer in core.vision_tower.sam_encoder.layers:
            layer.attn.forward = MethodType(_window_attention, layer.attn)
        core.vision_tower.sam_encoder.neck.register_forward_pre_hook(self._note_patches)
        for module in core.language_model.modules():
            if type(module).__name__.endswith("RMSNorm"):
                module.forward = MethodType(_rms_norm, module)
        for layer in core.language_model.layers:
            if hasattr(layer.mlp, "gate"):
                layer.mlp.gate.register_forward_hook(self._note_balance)

    def _attend(
        self, module: nn.Module, query: Tensor, key: Tensor, value: Tensor, _mask: Tensor | None, **_: Any
    ) -> tuple[Tensor, None]:
        """`[rows, heads, length, dim]`; causal in the decoder, where some heads' scores are kept for their lesson."""
        query = query * query.shape[-1] ** -0.5
        mask = None
        if module.is_causal:
            length = query.shape[-2]
            mask = query.new_full((length, length), -math.inf).triu(1)
            count = self._num_text_tokens
            for head, look in enumerate(LOOKS[module.layer_idx]):
                scores = query[:, head, -count:] @ key[:, head].mT + mask[-count:]
                self._looks.append((look, scores))
        return attend(query, key, value, mask).transpose(1, 2), None

    def _note_patches(self, _: nn.Module, arguments: tuple[Tensor]) -> None:
        self._patches = arguments[0]

    def _note_state(self, _: nn.Module, __: Any, states: Tensor) -> None:
        self._states.append(functional.rms_norm(states[:, -self._num_text_tokens :], states.shape[-1:]))

    def _note_balance(self, module: nn.Module, _: Any, output: tuple[Tensor, Tensor, Tensor]) -> None:
        """Switch Transformer's loss: 1 where all experts get the same share of tokens."""
        logits, _, chosen = output
        count = logits.shape[-1]
        share = functional.one_hot(chosen, count).float().sum(1).mean(0) / chosen.shape[-1]
        self._balance.append(count * (share * logits.softmax(-1).mean(0)).sum())

    def save(self, folder: Path, tokenizer: PreTrainedTokenizerFast) -> None:
        """Write the checkpoint in bfloat16: transformers writes the names that DeepSeek's checkpoint has."""
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: weight.detach().to(torch.bfloat16) for name, weight in self.model.state_dict().items()}
        self.model.save_pretrained(folder, state_dict=state)
        (folder / "generation_config.json").unlink(missing_ok=True)
        tokenizer.save_pretrained(folder)
        (folder / "config.json").write_text(json.dumps(self.config, indent=2) + "\n")
        # Trained on whole pages: a large one is made smaller, not cut into tiles.
        size = {"height": VIEW_SIDE, "width": VIEW_SIDE}
        preprocessor = {"image_processor_type": "UnlimitedOcrImageProcessor", "crop_to_patches": False, "size": size}
        (folder / "preprocessor_config.json").write_text(json.dumps(preprocessor, indent=2) + "\n")

    def matrix_names(self) -> set[str]:
        """What Muon trains: the weights inside the layers, experts and kernels included."""
        others = ("embed", "pos", "lm_head", "gate.weight", "_head")
        names = [name for name, parameter in self.named_parameters() if parameter.ndim >= 2]
        return {name for name in names if not any(part in name for part in others)}


def _cosines(count: int, channels: int, side: int) -> Tensor:
    """The `count` smoothest patterns of a cosine transform, of grey: `[count, channels, side, side]`."""
    places = (torch.arange(side) + 0.5) * math.pi / side
    waves = torch.cos(torch.arange(side)[:, None] * places) * (2 / side) ** 0.5
    waves[0] *= 0.5**0.5
    order = sorted(((y, x) for y in range(side) for x in range(side)), key=lambda at: (sum(at), at))[:count]
    patterns = torch.stack([torch.outer(waves[y], waves[x]) for y, x in order])
    return patterns[:, None].expand(-1, channels, -1, -1) / channels


def _waves(side: int, width: int) -> Tensor:
    """Sines and cosines of a cell's row and column, `[side², width]`: half of the width for each."""
    frequencies = math.pi * 2 ** torch.linspace(-1, math.log2(side) - 1, width // 4)
    angles = ((torch.arange(side) + 0.5) / side)[:, None] * frequencies
    waves = torch.cat((angles.sin(), angles.cos()), dim=1)
    return torch.cat((waves[:, None].expand(-1, side, -1), waves[None].expand(side, -1, -1)), dim=2).flatten(0, 1)


@torch.no_grad()
def _look_at_neighbours(attention: Any) -> None:
    """At first each of SAM's heads sees one neighbour of a patch (left, right, above, below), whatever is on it.

    Each head's queries have a bias in a direction of their own, and the embeddings of relative positions, which the
    heads share, lie along these directions.
    """
    heads, width = attention.num_attention_heads, attention.qkv.in_features
    size = (len(attention.rel_pos_h) + 1) // 2
    directions = torch.linalg.qr(torch.randn(width // heads, heads)).Q.T
    attention.qkv.bias[:width] = BIAS_LENGTH * directions.flatten()
    attention.qkv.weight[width : 2 * width] *= 0.1  # what the keys hold hardly counts at first
    offsets = -torch.arange(1 - size, size)
    for embeddings, wanted in ((attention.rel_pos_h, (0, 0, -1, 1)), (attention.rel_pos_w, (-1, 1, 0, 0))):
        for direction, offset in zip(directions, wanted, strict=True):
            scores = (-3.0 * (offsets - offset) ** 2).clamp(min=-20)
            embeddings += scores[:, None] * direction / BIAS_LENGTH


def _cells_of(places: Tensor, side: int) -> Tensor:
    """The cells, row by row, in which patches lie; IGNORED stays."""
    size = TOKEN_SIDE // PATCH_SIDE
    rows, columns = places // (side * size) // size, places % (side * size) // size
    return torch.where(places == IGNORED, IGNORED, rows * side + columns)


def _by_cell(slots: Tensor) -> Tensor:
    """`[rows, patches, patches, slots]` to `[rows, cells, slots of its patches]`."""
    rows, patches, _, num_slots = slots.shape
    size = TOKEN_SIDE // PATCH_SIDE
    grid = slots.view(rows, patches // size, size, patches // size, size, num_slots)
    return grid.transpose(2, 3).reshape(rows, -1, size * size * num_slots)


def _rms_norm(self: Any, hidden_states: Tensor) -> Tensor:
    return functional.rms_norm(hidden_states, self.weight.shape, self.weight, self.variance_epsilon)


def _window_attention(self: Any, hidden_states: Tensor, output_attentions: Any = None) -> tuple[Tensor, None]:
    """SAM's attention with its relative positions as further dimensions of queries and keys: no mask is built."""
    windows, height, width, _ = hidden_states.shape
    heads, length = self.num_attention_heads, height * width
    query, key, value = self.qkv(hidden_states).view(windows, length, 3, heads, -1).permute(2, 0, 3, 1, 4).unbind(0)
    grid = query.reshape(windows, heads, height, width, -1)
    rows = torch.einsum("nhyxc,ykc->nhyxk", grid, self.get_rel_pos(height, height, self.rel_pos_h).to(grid.dtype))
    columns = torch.einsum("nhyxc,xkc->nhyxk", grid, self.get_rel_pos(width, width, self.rel_pos_w).to(grid.dtype))
    positions = torch.cat(
        (torch.eye(height).repeat_interleave(width, 0), torch.eye(width).repeat(height, 1)), dim=1
    ).to(grid.dtype)
    query = torch.cat((query * self.scale, rows.flatten(2, 3), columns.flatten(2, 3)), dim=-1)
    key = torch.cat((key, positions.expand(windows, heads, -1, -1)), dim=-1)
    attended = attend(query, key, value)
    return self.proj(attended.transpose(1, 2).reshape(windows, height, width, -1)), None
