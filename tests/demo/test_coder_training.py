"""Training: the same seed makes the same data anywhere, and a run that was stopped ends as if it had not been."""

import os
import random
import subprocess
import sys
from dataclasses import replace
from itertools import pairwise
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer

from demo.card import Figure, table, write_block
from demo.coder import wishes, wordings
from demo.coder.conversations import conversation
from demo.coder.data import MIXES, Corpus, Mix, hole_in, mix_of, one_line
from demo.coder.figures import held_out_questions
from demo.coder.library import beginnings, cut_at_last_statement, parses, statement_ends, units_of, words_of
from demo.coder.model import configuration, new_model
from demo.coder.names import is_held_out, name
from demo.coder.programs import HELD_OUT_SHAPES, Taste, fill, outcome, program, shape_of
from demo.coder.runner import run_all
from demo.coder.tasks import TASKS
from demo.coder.train import Run, Settings
from demo.state import save_state

FOLDER = Path(__file__).parents[2] / "demo" / "coder"
LIBRARY = [(FOLDER / "data.py").read_text(), (FOLDER / "train.py").read_text()]
SETTINGS = Settings(steps=6, width=128, num_layers=2, num_rows=2, row_length=64, warmup_steps=2)
DIGEST = """
from pathlib import Path
from transformers import AutoTokenizer
from demo.coder.data import Corpus
folder = Path("demo/coder")
library = [(folder / "data.py").read_text(), (folder / "train.py").read_text()]
print(Corpus(AutoTokenizer.from_pretrained(folder), library, 0).digest(16, 512))
"""


@pytest.fixture(scope="module")
def corpus() -> Corpus:
    torch.set_num_threads(1)
    return Corpus(AutoTokenizer.from_pretrained(FOLDER), LIBRARY, 0)


def new_run(corpus: Corpus) -> Run:
    return Run(
        SETTINGS, corpus, new_model(configuration(corpus.tokenizer, 4096, SETTINGS.width, SETTINGS.num_layers), 0)
    )


@pytest.mark.slow
def test_the_data_follow_from_the_seed_alone(corpus: Corpus) -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST],
            cwd=FOLDER.parents[1],
            env=os.environ | {"PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            text=True,
        ).stdout.strip()
        for seed in ("1", "2")
    }
    assert digests == {corpus.digest(16, 512)}
    assert Corpus(corpus.tokenizer, LIBRARY, 1).digest(16, 512) not in digests


def test_a_row_is_full_and_begins_with_a_document(corpus: Corpus) -> None:
    for row in corpus.batch(3, 4, 512):
        assert len(row.ids) == len(row.weights) == 513
        assert row.ids[0] == corpus.bos
        assert any(row.weights)


def test_resuming_is_the_same_bit_for_bit(corpus: Corpus, tmp_path: Path) -> None:
    state = tmp_path / "state.pt"
    whole = new_run(corpus)
    losses = list(whole.steps(6))
    first = new_run(corpus)
    begun = list(first.steps(3))
    save_state(state, first.state())
    second = new_run(corpus)
    second.take_up(torch.load(state, weights_only=True))
    assert begun + list(second.steps(6)) == losses
    for a, b in zip(whole.model.parameters(), second.model.parameters(), strict=True):
        assert torch.equal(a, b)


def test_other_data_and_other_settings_are_another_training(corpus: Corpus) -> None:
    run = new_run(corpus)
    assert run.identity == new_run(corpus).identity
    assert run.identity != new_run(Corpus(corpus.tokenizer, LIBRARY, 1)).identity
    assert run.identity != Run(replace(run.settings, steps=7), corpus, run.model).identity


def test_what_stood_in_a_hole_weighs_more_later(corpus: Corpus) -> None:
    first, *later = MIXES
    early, late = (
        {weight for row in corpus.batch(step, 4, 512) for weight in row.weights} for step in (later[0] - 1, later[0])
    )
    assert early == {0.0, mix_of(first).hole_weight} == {0.0, 1.0}
    assert late == {0.0, 1.0, mix_of(later[0]).hole_weight}
    assert mix_of(later[-1]) == MIXES[later[-1]] != mix_of(later[-1] - 1)


def test_the_learning_rate_comes_down_and_rises_once_more() -> None:
    rates = [Settings().rate(step) for step in range(Settings().steps)]
    second = Settings().second_start
    assert second == max(MIXES)
    assert rates[second - 1] < 0.001 and rates[-1] < 0.001
    assert max(rates[:second]) == 1
    assert max(rates[second:]) == Settings().second_peak


def test_the_first_heads_look_back(corpus: Corpus) -> None:
    run = new_run(corpus)
    run.model.set_attn_implementation("eager")
    ids = torch.arange(300, 330)[None]
    weights = run.model.model(ids, output_attentions=True).attentions[0][0]
    assert weights[0].diagonal(-1).min() > 0.5


def test_a_hole_of_one_line_is_one_line() -> None:
    for seed in range(200):
        rng = random.Random(seed)
        text = program(rng)
        mix = mix_of(seed * 50)
        begin, end = one_line(rng, text, mix.seldom)
        assert text[begin:end].strip()
        assert "\n" not in text[begin : end - 1]
        begin, end = hole_in(rng, text, mix)
        assert 0 <= begin <= end <= len(text)


@pytest.mark.parametrize("mix", MIXES.values(), ids=map(str, MIXES))
def test_programs_run_and_none_is_held_out(mix: Mix, corpus: Corpus) -> None:
    taste = replace(mix.taste, words=corpus.words) if mix.library_names else mix.taste
    programs = [program(random.Random(seed), taste) for seed in range(300)]
    assert len(set(programs)) == 300
    assert all(run_all(programs))
    assert HELD_OUT_SHAPES.isdisjoint(map(shape_of, programs))


def test_shapes_see_through_names_builtins_and_methods_included() -> None:
    held_out = (
        "def count_passed(marks, limit):\n    passed = 0\n    for mark in marks:\n        passed += mark >= limit\n"
    )
    for own in ("f", "filter", "sum"):
        other = held_out.replace("count_passed", own).replace("passed", "count").replace("marks", "list")
        assert shape_of(other) == shape_of(held_out)
    a_class = "class Counter:\n    def add(self):\n        self.value += 1\n"
    assert shape_of(a_class) == shape_of(a_class.replace("value", "count").replace("add", "update"))
    assert shape_of("def f(xs):\n    return sum(xs)\n") != shape_of("def f(xs):\n    return max(xs)\n")
    assert shape_of("def f(xs):\n    return xs.pop()\n") != shape_of("def f(xs):\n    return xs.copy()\n")


def test_a_taste_chooses_the_plainest_and_takes_words() -> None:
    for taste in (Taste(), *(mix.taste for mix in MIXES.values())):
        made = [fill(random.Random(seed), "⟨plain|other⟩", taste) for seed in range(2000)]
        assert abs(made.count("plain") / 2000 - (1 + taste.plain_share) / 2) < 0.04
    drawn = [program(random.Random(seed), replace(Taste(), words=["zebra", "quiver"])) for seed in range(100)]
    assert sum("zebra" in text or "quiver" in text for text in drawn) > 50


def test_words_of_the_library_mean_nothing_to_python() -> None:
    assert words_of(["window = list(window)\nfor window in windows:\n    pass\n" * 4]) == ["window"]


def test_a_program_without_an_end_is_given_up() -> None:
    with pytest.raises(TimeoutError, match="no end after"):
        outcome("def run(items):\n    while items:\n        items.append(0)\n    return items\n", "run([1])")
    assert outcome("def run(items):\n    return sum(items)\n", "run([1, 2])") == 3


def test_what_is_held_out_is_not_asked_in_training() -> None:
    said = [
        message["content"]
        for seed in range(3000)
        for message in conversation(random.Random(seed))
        if message["role"] == "user"
    ]
    asked = set(said)
    assert asked.isdisjoint(question for task in TASKS for question in held_out_questions(task))
    for kind, held_out in wishes.HELD_OUT_FOLLOW_UPS.items():
        assert set(held_out).isdisjoint(wishes.FOLLOW_UPS[kind])
    for kind, held_out in wishes.HELD_OUT_SYSTEM_WISHES.items():
        assert held_out not in wishes.SYSTEM_WISHES[kind]
    assert set(wordings.TEMPLATES).isdisjoint(wordings.HELD_OUT_TEMPLATES)
    assert not any(is_held_out(name(random.Random(seed))) for seed in range(300))
    assert all(is_held_out(name(random.Random(seed), held_out=True)) for seed in range(300))


def test_statements_end_where_the_tokenizer_says_so() -> None:
    text = "@decorate\ndef f(x):\n    y = (1 +\n         2)\n    return '''a\n"
    assert [text[:end].count("\n") for end in statement_ends(text)] == [4]
    assert cut_at_last_statement("def f(x):\n", "    y = 1\n    if y:\n        z =") == "def f(x):\n    y = 1\n"
    assert cut_at_last_statement("x = 1\n", "y = (1,") is None
    assert cut_at_last_statement("if x:\n    y = 1\n", "  z = 2\n") is None


def test_beginnings_are_whole_statements() -> None:
    assert len(units_of(LIBRARY[0])) > 5
    for prefix in beginnings(tuple(LIBRARY), 8):
        assert prefix.endswith("\n")
        assert parses(prefix)


def test_the_card_holds_the_figures(tmp_path: Path) -> None:
    card = (FOLDER / "README.md").read_text()
    copy = tmp_path / "README.md"
    copy.write_text(card)
    write_block(copy, "figures", table([Figure("cats", "9/10 (90.0 %)")]))
    assert "| cats | 9/10 (90.0 %) |" in copy.read_text()
    assert "| 100 tasks × 3 held-out wordings" in card
    with pytest.raises(ValueError, match="markers"):
        write_block(copy, "other", "")


def test_the_card_says_what_is_read() -> None:
    card = (FOLDER / "README.md").read_text()
    steps = list(MIXES)
    shares = ([f"{100 * (b - a):.0f} %" for a, b in pairwise((0.0, *mix.cumulative_shares))] for mix in MIXES.values())
    kinds = ("Chats", "Copying", "Programs", "Tasks as code", "Library code")
    for kind, *row in zip(kinds, *shares, strict=True):
        assert f"| {kind} | {' | '.join(row)} |" in card
    assert f"| until step {steps[1]:,} | until step {steps[2]:,} | after it |" in card
    assert f"From step {steps[1]:,} on what stood in a hole weighs five times as much" in card
    assert [mix.hole_weight for mix in MIXES.values()] == [1, 5, 5]
    assert f"falls to nothing by step {Settings().second_start:,}, and" in card
