"""The saved state of a training."""

from __future__ import annotations

from pathlib import Path

import pytest

from demo.state import load_state, save_state


def test_a_state_is_taken_up_by_its_own_training_alone(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "made" / "state.pt"
    assert load_state(path, "seed 0") is None
    save_state(path, {"identity": "seed 0", "step": 7})
    assert load_state(path, "seed 0") == {"identity": "seed 0", "step": 7}
    assert "going on from step 7" in capsys.readouterr().out
    assert load_state(path, "seed 1") is None
    assert "beginning anew" in capsys.readouterr().out
    assert [file.name for file in path.parent.iterdir()] == ["state.pt"]
