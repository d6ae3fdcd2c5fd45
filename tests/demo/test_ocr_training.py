"""The OCR demo checkpoint's pages and training: deterministic, resumable, and computing what is served."""

from __future__ import annotations

import os
import random
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from rapidfuzz.distance import Levenshtein
from transformers import PreTrainedTokenizerFast

from adapter.ocr.markdown import read_page
from demo.ocr import figures
from demo.ocr.data import IGNORED, Batches, Encoder, Stage, cell_of, view_of
from demo.ocr.figures import best_overlaps, overlap
from demo.ocr.fonts import PILLOWS_OWN
from demo.ocr.maker import VIEW_SIDE, PageMaker
from demo.ocr.model import Trainee, attend
from demo.ocr.muon import Muon
from demo.ocr.pages import Page, text_of
from demo.ocr.tokenizer import make_tokenizer
from demo.ocr.train import Training
from demo.state import save_state
from engine.checkpoint import load_checkpoint
from engine.config import EngineConfig
from engine.errors import LoadError
from engine.images import ImageMode

MAKER = PageMaker(fonts=(PILLOWS_OWN,), code_fonts=(PILLOWS_OWN,))
"""No font but the one that comes with Pillow, so that a bare machine draws it."""
SMALL = PageMaker(view=448, fonts=(PILLOWS_OWN,), code_fonts=(PILLOWS_OWN,), max_lines=2, max_characters=40)
STAGES = (
    Stage("sees", 1, 2, SMALL, 0.01, None),
    Stage("reads", 2, 2, SMALL, 0.01, (0.4, 0.2, 0.2, 0.2), slip_share=0.1, decay_steps=2),
)


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerFast:
    return make_tokenizer()


def pages(count: int, maker: PageMaker = MAKER) -> list[Page]:
    return [maker.page(random.Random(seed)) for seed in range(count)]


DIGEST = """
import hashlib, random
from demo.ocr.fonts import PILLOWS_OWN
from demo.ocr.maker import PageMaker
from demo.ocr.pages import text_of
digest = hashlib.sha256()
maker = PageMaker(fonts=(PILLOWS_OWN,), code_fonts=(PILLOWS_OWN,))
for seed in range(6):
    page = maker.page(random.Random(seed))
    digest.update(page.image.tobytes() + text_of(page.markdown()).encode())
print(digest.hexdigest())
"""


@pytest.mark.slow
def test_a_seed_is_a_page_in_every_process() -> None:
    digests = {
        subprocess.run(
            [sys.executable, "-c", DIGEST], capture_output=True, text=True, check=True,
            env=os.environ | {"PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(digests) == 1


@pytest.mark.slow
def test_boxes_hold_the_ink_of_their_lines_and_nothing_else_is_inked() -> None:
    maker = PageMaker(fonts=MAKER.fonts, code_fonts=MAKER.fonts, kinds=("title", "text", "list", "code"), is_plain=True)
    for page in pages(12, maker):
        pixels = np.asarray(page.image, np.int16)
        inked = np.abs(pixels - pixels[0, 0]) > 60
        for line in (line for block in page.blocks for line in block.lines):
            left, top, right, bottom = line.box
            assert inked[int(top) : int(bottom) + 1, int(left) : int(right) + 1].any()
            inked[int(top) - 2 : int(bottom) + 3, max(0, int(left) - 3) : int(right) + 4] = False
        assert not inked.any()


def test_no_page_has_more_than_fifteen_lines() -> None:
    counts = [sum(1 for block in page.blocks for _ in block.printed()) for page in pages(60)]
    assert 1 <= min(counts) < 4
    assert 11 < max(counts) <= 15


def test_the_answers_are_what_the_adapter_reads_back() -> None:
    seen = set()
    for page in pages(30):
        width, height = page.image.size
        blocks = read_page(text_of(page.markdown()), 1, width, height).blocks
        assert [block.type for block in blocks] == [block.type for block in page.blocks]
        for read, drawn in zip(blocks, page.blocks, strict=True):
            seen.add(drawn.type)
            [box] = read.boxes
            assert box == pytest.approx(drawn.box, abs=max(width, height) / 900 + 1)
            cells = [line.text.strip() for line in drawn.lines]
            position = 0
            for cell in cells:
                words = cell.split()
                position = read.text.index(words[0], position) if words else position
        lines = [line for block in page.blocks for line in block.lines]
        located = read_page(text_of(page.grounding()), 1, width, height).blocks
        assert [" ".join(block.text.split()) for block in located] == [" ".join(line.text.split()) for line in lines]
    assert seen == {"title", "text", "list", "code", "table"}


def test_every_character_is_one_token_that_the_tokenizer_agrees_on(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder = Encoder(tokenizer)
    for page in pages(8):
        for prompt, answer in (("markdown", page.markdown()), ("grounding", page.grounding())):
            ids, labels, cells = encoder.row(page, VIEW_SIDE, prompt, random.Random(0))
            assert len(ids) == len(labels) == len(cells)
            said = [label for label in labels if label != IGNORED]
            assert said[-1] == tokenizer.eos_token_id
            assert said[:-1] == tokenizer.encode(text_of(answer), add_special_tokens=False)
            assert ids[-len(answer) :] == said[:-1]


def test_a_cell_is_where_the_view_shows_a_character() -> None:
    maker = PageMaker(fonts=MAKER.fonts, code_fonts=MAKER.fonts, is_plain=True)
    for page in pages(6, maker):
        view = view_of(page.image, VIEW_SIDE)[0].astype(np.int16)
        places = [place for token, place in page.text() if token.isalnum() and place]
        inked = 0
        for place in places:
            cell = cell_of(place, page.image.size, VIEW_SIDE, 16)
            y, x = cell // (VIEW_SIDE // 16) * 16, cell % (VIEW_SIDE // 16) * 16
            patch = view[max(0, y - 16) : y + 32, max(0, x - 16) : x + 32]
            inked += int(patch.max() - patch.min() > 60)
        assert inked == len(places)


def test_attention_and_its_gradient_are_torchs() -> None:
    torch.manual_seed(0)
    query, key, value = (torch.randn(2, 3, 5, 4, dtype=torch.double, requires_grad=True) for _ in range(3))
    mask = torch.full((5, 5), float("-inf"), dtype=torch.double).triu(1)
    expected = torch.nn.functional.scaled_dot_product_attention(query, key, value, is_causal=True, scale=1.0)
    torch.testing.assert_close(attend(query, key, value, mask), expected)
    assert torch.autograd.gradcheck(attend, (query, key, value))
    assert torch.autograd.gradcheck(lambda *parts: attend(*parts, mask), (query, key, value))


def test_muon_makes_updates_orthogonal_and_takes_kernels_and_stacks() -> None:
    torch.manual_seed(0)
    for shape in ((8, 16), (16, 8), (3, 8, 16), (8, 2, 3, 3)):
        weight = torch.nn.Parameter(torch.zeros(shape))
        weight.grad = torch.randn(shape)
        Muon([weight], lr=1.0, weight_decay=0.0).step()
        matrix = weight.detach().flatten(1) if weight.ndim == 4 else weight.detach()
        values = torch.linalg.svdvals(matrix) / (0.2 * max(matrix.shape[-2:]) ** 0.5)
        assert values.min() > 0.5
        assert values.max() < 1.5


def trained(tokenizer: PreTrainedTokenizerFast, state: Path | None, steps: Sequence[int]) -> Training:
    torch.set_num_threads(1)
    batches = Batches(STAGES, tokenizer, seed=0)
    training = Training(tokenizer)
    if state:
        training.load(torch.load(state, weights_only=True))
    for step in steps:
        stage, step_of_stage = batches.stage(step)
        training.learn(batches[step], stage.learning_rate_at(step_of_stage))
    return training


def test_a_stages_rate_rises_and_falls(tokenizer: PreTrainedTokenizerFast) -> None:
    stage = Stage("any", 10, 1, SMALL, 0.5, None, warmup_steps=2, decay_steps=5)
    assert [stage.learning_rate_at(step) for step in (0, 1, 5, 6, 9)] == [0.25, 0.5, 0.5, 0.4, 0.1]
    batches = Batches(STAGES, tokenizer, 0)
    assert [batches.stage(step) for step in range(3)] == [(STAGES[0], 0), (STAGES[1], 0), (STAGES[1], 1)]


def test_slips_change_what_is_seen_and_not_what_is_learned(tokenizer: PreTrainedTokenizerFast) -> None:
    encoder, rng = Encoder(tokenizer), random.Random(0)
    num_tokens, num_wrong, num_left_out, num_too_many = 0, 0, 0, 0
    for page in pages(12):
        for prompt in ("free", "markdown", "grounding"):
            row = encoder.row(page, VIEW_SIDE, prompt, rng)
            slipped = encoder.with_slips(row, 0.1, rng)
            asked = len(encoder.prompt(prompt))
            assert slipped[0][:asked] == row[0][:asked]
            true, shown = (list(zip(*triple, strict=True))[asked:] for triple in (row, slipped))
            assert {(label, place) for _, label, place in shown} <= {(label, place) for _, label, place in true}
            changes = Levenshtein.opcodes([label for _, label, _ in true], [label for _, label, _ in shown])
            num_left_out += sum(change.src_end - change.src_start for change in changes if change.tag == "delete")
            num_too_many += sum(change.dest_end - change.dest_start for change in changes if change.tag == "insert")
            num_wrong += sum(a != b for (a, *_), (_, b, _) in zip(shown[1:], shown, strict=False))
            num_tokens += len(true)
    assert 0.07 < num_wrong / num_tokens < 0.13
    assert 0.004 < num_left_out / num_tokens < 0.02
    assert 0.004 < num_too_many / num_tokens < 0.02


def test_other_answers_are_other_data(tokenizer: PreTrainedTokenizerFast) -> None:
    sees, reads = STAGES
    digests = {
        Batches((sees, stage), tokenizer, 0).digest()
        for stage in (reads, replace(reads, slip_share=0.0), replace(reads, prompt_weights=(0.0, 0.0, 1.0, 0.0)))
    }
    assert len(digests) == 3


def test_an_interrupted_training_ends_in_the_same_weights(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole = trained(tokenizer, None, range(3))
    save_state(tmp_path / "state.pt", trained(tokenizer, None, range(2)).state())
    resumed = trained(tokenizer, tmp_path / "state.pt", range(2, 3))
    assert resumed.step == whole.step == 3
    for name, weight in whole.trainee.state_dict().items():
        assert torch.equal(weight, resumed.trainee.state_dict()[name]), name


@pytest.mark.slow
def test_two_processes_share_a_batch_and_its_gradients(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    whole, *halves = (Batches(STAGES, tokenizer, 0, part) for part in ((0, 1), (0, 2), (1, 2)))
    assert torch.equal(whole[1].views, torch.cat([half[1].views for half in halves]))
    torch.multiprocessing.spawn(learn_a_half, (tmp_path,), nprocs=2)
    first, second = (torch.load(tmp_path / f"{rank}.pt") for rank in range(2))
    assert first.keys() == second.keys()
    assert all(torch.equal(first[name], second[name]) for name in first)
    untrained = Training(tokenizer).state()["weights"]
    assert not torch.equal(first["model.lm_head.weight"], untrained["model.lm_head.weight"])


def learn_a_half(rank: int, folder: Path) -> None:
    torch.set_num_threads(1)
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=2)
    batches = Batches(STAGES, make_tokenizer(), 0, (rank, 2))
    training = Training(make_tokenizer())
    training.learn(batches[1], STAGES[1].learning_rate)
    torch.save(training.state()["weights"], folder / f"{rank}.pt")


def test_what_is_trained_is_what_is_served(tokenizer: PreTrainedTokenizerFast, tmp_path: Path) -> None:
    """Training attends in its own way; the saved checkpoint computes the same in the engine."""
    torch.manual_seed(0)
    trainee = Trainee(tokenizer)
    trainee.save(tmp_path, tokenizer)
    checkpoint = load_checkpoint(EngineConfig(checkpoint=str(tmp_path), device="cpu", dtype="float32"))
    assert checkpoint.vision is not None
    assert checkpoint.vision.default_mode == ImageMode(VIEW_SIDE, VIEW_SIDE, crop=False)
    views = np.random.default_rng(0).integers(0, 256, (1, 448, 448, 3), np.uint8)
    served = checkpoint.vision.encode(views)
    trainee.model.to(torch.bfloat16).float()  # rounded as the checkpoint is
    core = trainee.model.model
    pixels = torch.from_numpy(views).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        learned = core.multi_modal_projector(core.vision_tower(pixels).last_hidden_state)
    torch.testing.assert_close(learned, served, rtol=1e-3, atol=1e-3)


def test_a_view_without_a_whole_number_of_embeddings_is_refused(
    tokenizer: PreTrainedTokenizerFast, tmp_path: Path
) -> None:
    Trainee(tokenizer).save(tmp_path, tokenizer)
    (tmp_path / "preprocessor_config.json").write_text('{"size": {"height": 100, "width": 100}}')
    with pytest.raises(LoadError, match="no multiple of 64 pixels"):
        load_checkpoint(EngineConfig(checkpoint=str(tmp_path), device="cpu"))


def test_the_digest_is_of_the_data(tokenizer: PreTrainedTokenizerFast) -> None:
    assert Batches(STAGES, tokenizer, 0).digest() == Batches(STAGES, tokenizer, 0).digest()
    assert Batches(STAGES, tokenizer, 0).digest() != Batches(STAGES, tokenizer, 1).digest()


def test_a_box_is_counted_once_and_a_missing_one_as_nothing() -> None:
    one, two = (0, 0, 10, 10), (20, 0, 30, 10)
    assert best_overlaps([one, two], [two, one]) == [1, 1]
    assert best_overlaps([one, one], [one]) in ([1, 0], [0, 1])
    assert best_overlaps([one], []) == [0]
    assert overlap((0, 0, 10, 10), (5, 0, 15, 10)) == pytest.approx(1 / 3)
    assert overlap(one, two) == 0


class Typist:
    """Reads a page as its seed drew it, but for what `spoil` does to it."""

    def __init__(self, spoil: Callable[[str], str]) -> None:
        self.spoil = spoil
        self.pages: dict[int, Page] = {}

    def read(self, asked: Sequence[tuple[Image.Image, str]]) -> list[str]:
        return [self.spoil(text_of(self.pages[id(image)].markdown())) for image, _ in asked]


def test_a_table_is_right_only_with_its_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    def value(spoil: Callable[[str], str]) -> str:
        typist = Typist(spoil)
        maker = PageMaker(fonts=MAKER.fonts, code_fonts=MAKER.fonts, held_out_texts=True)
        monkeypatch.setattr(figures, "MAKER", maker)
        monkeypatch.setattr(figures, "NUM_TABLES", 12)
        make_pages = figures.make_pages

        def noted(*arguments: Any) -> Iterator[Page]:
            for page in make_pages(*arguments):
                typist.pages[id(page.image)] = page
                yield page

        monkeypatch.setattr(figures, "make_pages", noted)
        [figure] = figures.table_figures(typist)  # type: ignore[arg-type]
        monkeypatch.setattr(figures, "make_pages", make_pages)
        good, whole = map(int, figure.value.split()[0].split("/"))
        assert whole >= 12
        assert len(figure.missed) == whole - good
        return f"{good / whole:.0%}"

    assert value(lambda text: text) == "100%"
    assert value(lambda text: text.replace("</tr><tr>", "")) == "0%"
    assert value(lambda text: text.replace("<td>", "<td>x", 1)) != "100%"
    assert value(lambda text: "") == "0%"
