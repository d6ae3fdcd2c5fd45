"""Trains the OCR demo checkpoint from scratch: `python -m demo.ocr.train` in the repository's root.

It goes on from where it was interrupted. Each step's pages come from the seed and the step alone.
"""

from __future__ import annotations

import argparse
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn
from torch.utils.data import DataLoader
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from demo.card import machine, report, write_block
from demo.memory import keep_memory
from demo.ocr.data import Batch, Batches, Stage
from demo.ocr.figures import all_figures
from demo.ocr.fonts import check_fonts
from demo.ocr.maker import PageMaker
from demo.ocr.model import Trainee
from demo.ocr.muon import Muon
from demo.ocr.pages import BlockType
from demo.ocr.reader import Reader
from demo.ocr.tokenizer import make_tokenizer
from demo.state import load_state, save_state

PROJECT = Path(__file__).parents[2]
STATE = PROJECT / ".cache" / "train-ocr" / "state.pt"
SEED = 0
WARMUP_STEPS = 100
DECAY_SHARE = 0.25
"""Of the steps, at the end, in which the learning rate falls to nothing."""
SAVE_EVERY_S = 240
_DENSE: tuple[BlockType, ...] = ("text", "text", "text", "text", "code", "title", "table")
_NARROW = PageMaker(view=448, ems=(18, 44), kinds=_DENSE)
STAGES = (
    Stage(
        "glyphs", 2500, 16,
        replace(_NARROW, min_lines=8, max_lines=20, min_proportion=0.8, max_characters=700),
        rate=0.006, prompt_weights=None,
    ),
    Stage(
        "lines", 1200, 16,
        replace(_NARROW, min_lines=2, max_lines=12, min_proportion=0.6, max_characters=260),
        rate=0.004, prompt_weights=(0.75, 0.05, 0.15, 0.05),
    ),
    Stage("pages", 650, 6, PageMaker(), rate=0.003, prompt_weights=(0.5, 0.2, 0.25, 0.05)),
    Stage("places", 750, 6, PageMaker(), rate=0.003, prompt_weights=(0.5, 0.2, 0.25, 0.05), teaches_places=True),
)  # fmt: skip


class Training:
    """Model, optimizers and the step that comes next."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, num_steps: int, identity: str = "") -> None:
        torch.manual_seed(SEED)
        self.identity = identity
        self.trainee = Trainee(tokenizer)
        self.num_steps = num_steps
        self.step = 0
        self.seconds = 0.0
        self._exact = {name: nn.Parameter(weight.detach().clone()) for name, weight in self.trainee.named_parameters()}
        matrices = self.trainee.matrix_names()
        self.optimizers: list[torch.optim.Optimizer] = [
            Muon([weight for name, weight in self._exact.items() if name in matrices], lr=0.0),
            torch.optim.AdamW(
                [weight for name, weight in self._exact.items() if name not in matrices],
                lr=0.0, betas=(0.9, 0.98), weight_decay=0.0,
            ),
        ]  # fmt: skip
        self.trainee.to(torch.bfloat16)

    @property
    def summary(self) -> str:
        """What the training was, in a sentence."""
        return f"{self.step} steps, seed {SEED}: {self.seconds / 60:.0f} minutes on {machine()}, one of them drawing."

    def learn(self, batch: Batch, stage: Stage) -> dict[str, float]:
        """One step; the parts of its loss. The model computes in bfloat16, its float32 weights are the optimizers'."""
        started_s = time.perf_counter()
        left = (self.num_steps - self.step) / (DECAY_SHARE * self.num_steps)
        rate = stage.rate * min((self.step + 1) / WARMUP_STEPS, 1.0, left)
        torch.manual_seed(self.step)
        loss, parts = self.trainee(batch, stage.teaches_places)
        loss.backward()  # type: ignore[no-untyped-call]
        for name, weight in self.trainee.named_parameters():
            if weight.grad is not None:
                self._exact[name].grad = weight.grad.float()
                weight.grad = None
        torch.nn.utils.clip_grad_norm_(self._exact.values(), 1.0)
        for optimizer, share in zip(self.optimizers, (1, 1 / 3), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = rate * share
            optimizer.step()
            optimizer.zero_grad()
        self._round()
        self.step += 1
        self.seconds += time.perf_counter() - started_s
        return {name: part.item() for name, part in parts.items()}

    @torch.no_grad()
    def _round(self) -> None:
        for name, weight in self.trainee.named_parameters():
            weight.copy_(self._exact[name])

    def state(self) -> dict[str, Any]:
        return {
            "identity": self.identity,
            "step": self.step,
            "seconds": self.seconds,
            "weights": {name: weight.detach() for name, weight in self._exact.items()},
            "optimizers": [optimizer.state_dict() for optimizer in self.optimizers],
        }

    def load(self, state: dict[str, Any]) -> None:
        self.step, self.seconds = state["step"], state["seconds"]
        with torch.no_grad():
            for name, weight in self._exact.items():
                weight.copy_(state["weights"][name])
        self._round()
        for optimizer, saved in zip(self.optimizers, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)


def train(state_path: Path, resume: bool) -> Training:
    """Train to the last step, from the state in `state_path` if it is there and of this training."""
    check_fonts()
    tokenizer = make_tokenizer()
    batches = Batches(STAGES, tokenizer, SEED)
    training = Training(tokenizer, len(batches), identity=f"{SEED} {STAGES} {batches.digest()}")
    state = load_state(state_path, training.identity) if resume else None
    if state:
        training.load(state)
    # A process of its own draws the pages.
    loader = DataLoader(
        batches, batch_size=None, sampler=range(training.step, len(batches)), num_workers=1, prefetch_factor=4
    )
    saved_at = time.monotonic()
    averages: dict[str, float] = {}
    with tqdm(total=len(batches), initial=training.step, unit="step", dynamic_ncols=True) as bar:
        for batch in loader:
            parts = training.learn(batch, batches.stage(training.step))
            averages = {name: 0.97 * averages.get(name, part) + 0.03 * part for name, part in parts.items()}
            bar.set_description(batches.stage(training.step - 1).name)
            bar.set_postfix({name: f"{part:.3f}" for name, part in averages.items()}, refresh=False)
            bar.update()
            if time.monotonic() - saved_at > SAVE_EVERY_S:
                save_state(state_path, training.state())
                saved_at = time.monotonic()
    save_state(state_path, training.state())
    return training


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--evaluate", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    training = train(arguments.state, arguments.resume)
    training.trainee.save(arguments.out, make_tokenizer())
    arguments.state.unlink()  # the next training begins anew
    print(f"saved to {arguments.out}. {training.summary}")
    card = arguments.out / "README.md" if (arguments.out / "README.md").exists() else None
    if card:
        write_block(card, "training", training.summary)
    if arguments.evaluate:
        report(all_figures(Reader(arguments.out, arguments.threads)), card)


if __name__ == "__main__":
    main()
