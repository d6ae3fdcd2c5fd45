"""Trains the coder demo checkpoint from scratch on CPU: `python -m demo.coder.train` in the repository's root.

Every reply is run against its checks first. Tokenizer and model are then trained and saved in DeepSeek-Coder's format.
A run that was stopped goes on where its last saved state stands. The number of steps, not the clock, rules the
schedule, and each step's data follow from the seed: the same settings give the same model.
"""

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from tqdm import tqdm
from transformers import LlamaForCausalLM, PreTrainedTokenizerFast

from demo.card import machine, report, write_block
from demo.coder.checkpoint import Coder
from demo.coder.data import Corpus, tokenizer_texts
from demo.coder.figures import all_figures
from demo.coder.library import read_library
from demo.coder.model import MAX_LENGTH, configuration, held, loss_of, new_model, optimizers, save
from demo.coder.replies import verify
from demo.coder.tasks import TASKS
from demo.coder.tokenizer import train_tokenizer
from demo.memory import keep_memory, trim_memory
from demo.state import load_state, save_state

STATE_FOLDER = Path(".cache/train-coder")
SAVE_EVERY_S = 120


@dataclass(frozen=True)
class Settings:
    """What a training run is. The state of another run is not taken up."""

    seed: int = 0
    steps: int = 6500
    vocab_size: int = 4096
    width: int = 256
    num_layers: int = 4
    num_rows: int = 16
    row_length: int = 512
    warmup_steps: int = 40
    second_start: int = 4500
    """Where the learning rate, which has come down to nothing, rises again: the last mix is learned anew."""
    second_peak: float = 0.6

    @property
    def tokens_per_step(self) -> int:
        """Ids that one step reads."""
        return self.num_rows * self.row_length

    def rate(self, step: int) -> float:
        """The learning rate of a step, as a share of its peak."""
        begin, end, peak = 0, min(self.steps, self.second_start), 1.0
        if step >= self.second_start:
            begin, end, peak = self.second_start, self.steps, self.second_peak
        done, whole = step - begin, end - begin
        return peak * min((done + 1) / self.warmup_steps, 1.0, 1.25 * (1 - done / whole))


@dataclass
class Run:
    """A model on its way."""

    settings: Settings
    corpus: Corpus
    model: LlamaForCausalLM
    chosen: list[torch.optim.Optimizer] = field(init=False)
    peaks: list[float] = field(init=False)
    built: list[tuple[torch.nn.Parameter, tuple[slice, slice], torch.Tensor]] = field(init=False)
    step: int = 0
    loss: float | None = None  # running average
    seconds: float = 0.0

    def __post_init__(self) -> None:
        self.chosen = optimizers(self.model)
        self.built = [(weight, part, weight.detach()[part].clone()) for weight, part in held(self.model)]
        self.peaks = [optimizer.param_groups[0]["lr"] for optimizer in self.chosen]

    @cached_property
    def identity(self) -> str:
        """Settings and the data's hash: equal for runs that may take up each other's state."""
        return f"{self.settings} {self.corpus.digest(self.settings.num_rows, self.settings.row_length)}"

    @property
    def summary(self) -> str:
        """What the training was, in a sentence."""
        tokens, minutes = self.step * self.settings.tokens_per_step / 1e6, self.seconds / 60
        return (
            f"{self.step} steps, {tokens:.1f} million tokens, seed {self.settings.seed}: {minutes:.0f} minutes"
            f" on {torch.get_num_threads()} of {machine()}; loss {self.loss:.2f}."
        )

    def state(self) -> dict[str, Any]:
        """Everything that a later process needs to go on."""
        return {
            "identity": self.identity,
            "model": self.model.state_dict(),
            "optimizers": [optimizer.state_dict() for optimizer in self.chosen],
            "step": self.step,
            "loss": self.loss,
            "seconds": self.seconds,
            "rng": torch.get_rng_state(),
        }

    def take_up(self, state: dict[str, Any]) -> None:
        """Goes on from a saved state."""
        self.model.load_state_dict(state["model"])
        for optimizer, saved in zip(self.chosen, state["optimizers"], strict=True):
            optimizer.load_state_dict(saved)
        self.step, self.loss, self.seconds = state["step"], state["loss"], state["seconds"]
        torch.set_rng_state(state["rng"])

    def train_step(self) -> float:
        """One step of all optimizers; its loss."""
        settings = self.settings
        rate = settings.rate(self.step)
        for optimizer, peak in zip(self.chosen, self.peaks, strict=True):
            optimizer.param_groups[0]["lr"] = peak * rate
        rows = self.corpus.batch(self.step, settings.num_rows, settings.row_length)
        ids, weights = torch.tensor([row.ids for row in rows]), torch.tensor([row.weights for row in rows])
        loss = loss_of(self.model, ids, weights)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        for optimizer in self.chosen:
            optimizer.step()
            optimizer.zero_grad()
        with torch.no_grad():
            for weight, part, built in self.built:
                weight[part] = built
        self.step += 1
        value = loss.item()
        self.loss = value if self.loss is None else 0.95 * self.loss + 0.05 * value
        return value

    def steps(self, until: int) -> Iterator[float]:
        """The losses of the steps up to `until`."""
        while self.step < until:
            started = time.perf_counter()
            loss = self.train_step()
            self.seconds += time.perf_counter() - started
            trim_memory(self.step)
            yield loss


def prepare(settings: Settings) -> tuple[Run, PreTrainedTokenizerFast]:
    """Checks the replies, reads the library, trains the tokenizer and makes a new model."""
    print(f"{verify(TASKS)} answers to {len(TASKS)} tasks run and pass their checks", flush=True)
    library = read_library()
    characters = sum(map(len, library.trained))
    print(f"{len(library.trained)} library files, {characters / 1e6:.1f}M characters", flush=True)
    texts = tokenizer_texts(settings.seed, library.trained)
    tokenizer = train_tokenizer(texts, settings.vocab_size, MAX_LENGTH)
    config = configuration(tokenizer, settings.vocab_size, settings.width, settings.num_layers)
    model = new_model(config, settings.seed)
    print(f"{sum(p.numel() for p in model.parameters()) / 1e6:.2f}M parameters, {len(tokenizer)} tokens", flush=True)
    return Run(settings, Corpus(tokenizer, library.trained, settings.seed), model), tokenizer


def train(settings: Settings, out: Path, state: Path, resume: bool) -> Run:
    """Trains to the last step, saving the state now and then, and writes the checkpoint."""
    run, tokenizer = prepare(settings)
    saved = load_state(state, run.identity) if resume else None
    if saved:
        run.take_up(saved)
    saved_at = time.perf_counter()
    with tqdm(total=settings.steps, initial=run.step, unit="step", mininterval=1.0, dynamic_ncols=True) as bar:
        first, started = run.step, time.perf_counter()
        for _ in run.steps(settings.steps):
            speed = (run.step - first) * settings.tokens_per_step / (time.perf_counter() - started)
            bar.set_postfix_str(f"loss {run.loss:.3f}, {speed:.0f} tokens/s", refresh=False)
            bar.update()
            if time.perf_counter() - saved_at > SAVE_EVERY_S:
                save_state(state, run.state())
                saved_at = time.perf_counter()
    save_state(state, run.state())
    save(run.model, tokenizer, out)
    state.unlink()  # the next training begins anew
    print(f"saved to {out}. {run.summary}")
    return run


def main() -> None:
    """Command line."""
    defaults = Settings()
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--steps", type=int, default=defaults.steps)
    parser.add_argument("--seed", type=int, default=defaults.seed)
    parser.add_argument("--width", type=int, default=defaults.width)
    parser.add_argument("--layers", type=int, default=defaults.num_layers)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path(__file__).parent)
    parser.add_argument("--state", type=Path, default=STATE_FOLDER / "state.pt")
    parser.add_argument("--resume", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--evaluate", action=argparse.BooleanOptionalAction, default=True)
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    keep_memory()
    settings = Settings(seed=arguments.seed, steps=arguments.steps, width=arguments.width, num_layers=arguments.layers)
    run = train(settings, arguments.out, arguments.state, arguments.resume)
    card = arguments.out / "README.md"
    if card.exists():
        write_block(card, "training", run.summary)
    if arguments.evaluate:
        report(all_figures(Coder(arguments.out)), card if card.exists() else None)


if __name__ == "__main__":
    main()
