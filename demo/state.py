"""The saved state of a training, so that it can go on after an interruption."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def save_state(path: Path, state: dict[str, Any]) -> None:
    """Write beside `path`, then move there: an interrupted write leaves the state before it whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".new")
    torch.save(state, unfinished)
    unfinished.replace(path)


def load_state(path: Path, identity: str) -> dict[str, Any] | None:
    """The state, if there is one and it is of the training with this identity: settings and data."""
    if not path.exists():
        return None
    state: dict[str, Any] = torch.load(path, weights_only=True)
    if state.get("identity") != identity:
        print(f"{path} is of another training; beginning anew", flush=True)
        return None
    print(f"going on from step {state['step']}", flush=True)
    return state
