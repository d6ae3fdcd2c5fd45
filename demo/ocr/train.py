"""Trains the OCR demo checkpoint from scratch: `python -m demo.ocr.train` in the repository's root.

It goes on from where it was interrupted. Each step's pages come from the seed and the step alone.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from pathlib import Path
from typing import Any

import torch
from torch import distributed, multiprocessing, nn
from tqdm import tqdm
from transformers import PreTrainedTokenizerFast

from demo.card import machine, report, write_block
from demo.memory import keep_memory, trim_memory
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
SAVE_EVERY_S = 240
NUM_PROCESSES = 2
"""That share each batch: part of what makes the weights, so not to be chosen."""
_DENSE: tuple[BlockType, ...] = ("text", "text", "text", "text", "code", "title", "table")
STAGES = (
    Stage(
        "glyphs", 2500, 16,
        PageMaker(
            view=448, ems=(18, 44), kinds=_DENSE,
            min_lines=8, max_lines=20, min_proportion=0.8, max_characters=700,
        ),
        learning_rate=0.006, prompt_weights=None, warmup_steps=100,
    ),
    Stage(
        "lines", 1600, 16,
        PageMaker(view=640, max_lines=8, min_proportion=0.6, max_characters=200, kinds=_DENSE),
        learning_rate=0.005, prompt_weights=(0.75, 0.05, 0.15, 0.05),
    ),
    Stage(
        "pages", 2100, 6, PageMaker(),
        learning_rate=0.004, prompt_weights=(0.5, 0.2, 0.25, 0.05), decay_steps=1550,
    ),
    Stage(
        "slips", 2700, 6, PageMaker(),
        learning_rate=0.003, prompt_weights=(0.45, 0.2, 0.25, 0.1), slip_share=0.08, warmup_steps=100, decay_steps=1000,
    ),
)  # fmt: skip


class Training:
    """Model, optimizers and the step that comes next."""

    def __init__(self, tokenizer: PreTrainedTokenizerFast, identity: str = "") -> None:
        torch.manual_seed(SEED)
        self.identity = identity
        self.trainee = Trainee(tokenizer)
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
        return f"{self.step} steps, seed {SEED}: {self.seconds / 60:.0f} minutes on {machine()}."

    def learn(self, batch: Batch, learning_rate: float) -> dict[str, float]:
        """One step; the parts of its loss. The model computes in bfloat16, its float32 weights are the optimizers'."""
        torch.manual_seed(self.step)
        loss, parts = self.trainee(batch)
        loss.backward()  # type: ignore[no-untyped-call]
        self._share_gradients()
        torch.nn.utils.clip_grad_norm_(self._exact.values(), 1.0)
        for optimizer, share in zip(self.optimizers, (1, 1 / 3), strict=True):
            for group in optimizer.param_groups:
                group["lr"] = learning_rate * share
            optimizer.step()
            optimizer.zero_grad()
        self._round()
        self.step += 1
        return {name: part.item() for name, part in parts.items()}

    def _share_gradients(self) -> None:
        """Give the float32 weights the mean of all processes' gradients."""
        taught = [(name, weight) for name, weight in self.trainee.named_parameters() if weight.grad is not None]
        flat = torch.cat([weight.grad.float().flatten() for _, weight in taught if weight.grad is not None])
        if distributed.is_initialized():
            distributed.all_reduce(flat)
            flat /= distributed.get_world_size()
        for (name, weight), gradient in zip(taught, flat.split([weight.numel() for _, weight in taught]), strict=True):
            self._exact[name].grad = gradient.view_as(weight)
            weight.grad = None

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


def train(rank: int, arguments: argparse.Namespace) -> None:
    """One process of the training; the first one shows progress, saves, and measures in the end."""
    torch.set_num_threads(arguments.threads)
    keep_memory()
    distributed.init_process_group(
        "gloo", init_method=f"file://{arguments.meeting}", rank=rank, world_size=NUM_PROCESSES
    )
    tokenizer = make_tokenizer()
    batches = Batches(STAGES, tokenizer, SEED, (rank, NUM_PROCESSES))
    training = Training(tokenizer, identity=f"{SEED} {STAGES} {batches.digest()}")
    state = load_state(arguments.state, training.identity) if arguments.resume else None
    if state:
        training.load(state)
    distributed.barrier()
    saved_at = time.monotonic()
    averages: dict[str, float] = {}
    with tqdm(
        total=len(batches), initial=training.step, unit="step", dynamic_ncols=True, mininterval=1, disable=rank > 0
    ) as bar:
        while training.step < len(batches):
            started_s = time.perf_counter()
            stage, step = batches.stage(training.step)
            parts = training.learn(batches[training.step], stage.learning_rate_at(step))
            trim_memory(training.step)
            training.seconds += time.perf_counter() - started_s
            averages = {name: 0.97 * averages.get(name, part) + 0.03 * part for name, part in parts.items()}
            bar.set_description(stage.name)
            bar.set_postfix({name: f"{part:.3f}" for name, part in averages.items()}, refresh=False)
            bar.update()
            is_last = training.step == len(batches)
            if rank == 0 and (is_last or time.monotonic() - saved_at > SAVE_EVERY_S):
                save_state(arguments.state, training.state())
                saved_at = time.monotonic()
    if rank == 0:
        finish(training, arguments)


def finish(training: Training, arguments: argparse.Namespace) -> None:
    """Write the checkpoint, measure it, and write its card where it has one."""
    training.trainee.save(arguments.out, make_tokenizer())
    arguments.state.unlink()  # the next training begins anew
    print(f"saved to {arguments.out}. {training.summary}")
    card = arguments.out / "README.md" if (arguments.out / "README.md").exists() else None
    if card:
        write_block(card, "training", training.summary)
    if arguments.evaluate:
        report(all_figures(Reader(arguments.out, arguments.threads)), card)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--threads", type=int, default=1, help="of each of two processes")
    parser.add_argument("--state", type=Path, default=STATE)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--evaluate", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    check_fonts()
    with tempfile.TemporaryDirectory() as folder:
        arguments.meeting = Path(folder, "processes")
        multiprocessing.spawn(train, (arguments,), NUM_PROCESSES)


if __name__ == "__main__":
    main()
