"""DeepSeek-OCR in the engine, held against transformers' `generate` on the same pixels, in float32."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from engine.checkpoint import Checkpoint, load_checkpoint
from engine.config import EngineConfig
from engine.errors import InvalidRequest, LoadError, StepFailed
from engine.image_prompt import ImagePromptEncoder
from engine.images import ImageViews, cut_views, lay_out
from engine.loop import Engine
from engine.request import Prompt
from tests.checkpoints import OCR_ARCHITECTURES, ocr_config, save_ocr_checkpoint, train_tokenizer
from tests.engine.recorder import Recorder, run
from tests.ocr_reference import NUM_TOKENS, PROMPT, Reference, page

# Sizes whose paddings are even, or a multiple of four and one: Pillow, which DeepSeek uses, and transformers' own
# code put an odd one on different sides.
SIZES = [(900, 1200), (1280, 500), (300, 200), (640, 640), (700, 700)]
CASES = [
    ("deepseek_ocr", "tiny", [(900, 1200), (300, 200)]),
    ("deepseek_ocr", "small", [(900, 1200)]),
    ("deepseek_ocr", "base", [(900, 1200), (300, 200)]),
    ("deepseek_ocr", "large", [(1280, 500)]),
    ("deepseek_ocr", "gundam", SIZES),
    ("deepseek_ocr2", "small", [(900, 1200)]),
    ("deepseek_ocr2", "base", [(300, 200)]),
    ("deepseek_ocr2", "gundam", [(900, 1200), (640, 640), (1280, 500)]),
]
IDS = [f"{architecture}-{mode}" for architecture, mode, _ in CASES]


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("ocr")
    return {name: save_ocr_checkpoint(name, folder / name) for name in OCR_ARCHITECTURES}


@pytest.fixture(scope="module")
def engines(folders: dict[str, Path]) -> Iterator[dict[str, tuple[Engine, Checkpoint]]]:
    started = {}
    for name, folder in folders.items():
        config = EngineConfig(
            checkpoint=str(folder),
            dtype="float32",
            device="cpu",
            cache_gib=0.2,
            num_threads=1,
            max_step_tokens=200,
            max_step_views=8,
        )
        checkpoint = load_checkpoint(config)
        started[name] = Engine(checkpoint, config), checkpoint
        started[name][0].start()
    yield started
    for engine, _ in started.values():
        engine.stop()
        assert engine.num_free_cache_blocks == engine.num_cache_blocks


def prompt_of(checkpoint: Checkpoint, mode: str, *pages: Image.Image, text: str = PROMPT) -> Prompt:
    assert checkpoint.vision is not None
    encoder = ImagePromptEncoder(checkpoint, checkpoint.max_context)
    layouts = [lay_out(image.size, checkpoint.vision.modes[mode]) for image in pages]
    prompt = encoder.encode_raw("text_input", text, layouts)
    for image, placed in zip(pages, prompt.images, strict=True):
        placed.views = cut_views(image, placed.layout)
    return prompt


@pytest.fixture(scope="module")
def references(folders: dict[str, Path]) -> dict[str, Reference]:
    return {name: Reference(name, folder) for name, folder in folders.items()}


GREEDY = {"temperature": 0, "max_tokens": NUM_TOKENS, "skip_special_tokens": False}


@pytest.mark.parametrize(("architecture", "mode", "sizes"), CASES, ids=IDS)
def test_pixels_layout_and_tokens_are_those_of_transformers(
    architecture: str,
    mode: str,
    sizes: list[tuple[int, int]],
    engines: dict[str, tuple[Engine, Checkpoint]],
    references: dict[str, Reference],
) -> None:
    engine, checkpoint = engines[architecture]
    reference = references[architecture]
    assert checkpoint.vision is not None
    image_mode = checkpoint.vision.modes[mode]
    together, expected = [], []
    for size in sizes:
        image = page(size)
        inputs = reference.inputs(image, image_mode)
        prompt = prompt_of(checkpoint, mode, image)
        assert prompt.tokens == inputs["input_ids"][0].tolist()
        assert prompt.images[0].views is not None
        check_pixels(prompt.images[0].views, inputs)
        expected.append(reference.generate(inputs))
        assert run(engine, prompt, **GREEDY).text() == expected[-1]
        together.append(Recorder(prompt_of(checkpoint, mode, image), **GREEDY))
    for recorder in together:
        engine.submit(recorder.request)
    assert [recorder.wait().text() for recorder in together] == expected
    assert len(set(expected)) == len(sizes), "the pictures make no difference"


def check_pixels(views: ImageViews, inputs: dict[str, Any]) -> None:
    def scaled(pixels: Any) -> Any:
        return pixels.astype(np.float32).transpose(0, 3, 1, 2) / 127.5 - 1

    np.testing.assert_allclose(scaled(views.view[None]), inputs["pixel_values"].numpy(), atol=1e-6)
    if len(views.tiles):
        np.testing.assert_allclose(scaled(views.tiles), inputs["pixel_values_local"].numpy(), atol=1e-6)
    else:
        assert "pixel_values_local" not in inputs


def test_a_page_is_the_same_alone_and_among_others(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    """16 pages of all modes at once, texts without a page among them, one cancelled."""
    engine, checkpoint = engines["deepseek_ocr"]
    modes = ["tiny", "small", "base", "gundam"]

    def recorders() -> list[Recorder]:
        pages = [prompt_of(checkpoint, modes[i % 4], page((600 + 40 * i, 800), seed=i)) for i in range(16)]
        texts = [prompt_of(checkpoint, "tiny", text="def configs() -> dict:")] * 2
        return [Recorder(prompt, **GREEDY) for prompt in [*pages, *texts]]

    alone = [run(engine, recorder.request.prompt, **GREEDY).text() for recorder in recorders()]
    together = recorders()
    gone = Recorder(prompt_of(checkpoint, "gundam", page((1500, 900))), **GREEDY)
    waiting = [*together[:5], gone, *together[5:]]
    submitter = threading.Thread(target=lambda: [engine.submit(recorder.request) for recorder in waiting])
    submitter.start()
    engine.cancel(gone.request)
    assert [recorder.wait().text() for recorder in together] == alone
    assert gone.wait().finish_reasons == {0: "cancelled"}
    submitter.join()


def test_several_images_in_one_prompt(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    engine, checkpoint = engines["deepseek_ocr"]
    first, second = page((300, 200)), page((200, 300))
    text = "<image>\nFirst. <image>\nSecond."
    prompts = [prompt_of(checkpoint, "tiny", *pages, text=text) for pages in ((first, second), (second, first))]
    for prompt in prompts:
        for image in prompt.images:
            assert set(prompt.tokens[image.start : image.start + 73]) == {checkpoint.image_token_id}
    assert len({run(engine, prompt, **GREEDY).text() for prompt in prompts}) == 2


def test_an_image_that_cannot_be_encoded_fails_its_request_alone(
    engines: dict[str, tuple[Engine, Checkpoint]], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, checkpoint = engines["deepseek_ocr"]
    text = Recorder(prompt_of(checkpoint, "tiny", text="def f"), temperature=0, max_tokens=60, ignore_eos=True)
    engine.submit(text.request)

    encode = type(checkpoint.vision).encode

    def fail_over_640(self: Any, views: Any) -> Any:
        if views.shape[1] > 640:
            raise RuntimeError("out of memory")
        return encode(self, views)

    with monkeypatch.context() as patch:
        patch.setattr(type(checkpoint.vision), "encode", fail_over_640)
        modes = ["tiny", "base", "small", "large", "tiny"]
        pages = [Recorder(prompt_of(checkpoint, mode, page((300, 200))), **GREEDY) for mode in modes]
        for recorder in pages:
            engine.submit(recorder.request)
        for mode, recorder in zip(modes, pages, strict=True):
            assert [type(error) for error in recorder.wait().errors] == [StepFailed] * (mode in ("base", "large"))
    assert text.wait().num_tokens() == 60
    assert run(engine, prompt_of(checkpoint, "base", page((300, 200))), **GREEDY).finish_reasons


def test_a_loop_ends_as_repetition_also_where_the_ngram_rule_breaks_it_up(
    engines: dict[str, tuple[Engine, Checkpoint]],
) -> None:
    engine, checkpoint = engines["deepseek_ocr"]
    prompt = prompt_of(checkpoint, "tiny", page((300, 200)))
    one_token = {"10": 100, "11": 80, "12": 60, "13": 40}  # and the next one where the rule bans it
    options = {"temperature": 0, "ignore_eos": True, "max_tokens": 1500, "logit_bias": one_token}
    for rule in ({}, {"no_repeat_ngram_size": 30, "no_repeat_ngram_window": 90}):
        ended = run(engine, prompt, **options, **rule, max_repetition_tokens=200)
        assert ended.finish_reasons == {0: "repetition"}, rule
        assert 200 <= ended.num_tokens() < 1500
    forever = run(engine, prompt, **options | {"max_tokens": 300}, max_repetition_tokens=0)
    assert (forever.finish_reasons, forever.num_tokens()) == ({0: "length"}, 300)


def test_the_ngram_rule_is_kept_in_the_output(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    engine, checkpoint = engines["deepseek_ocr"]
    prompt = prompt_of(checkpoint, "tiny", page((300, 200)))

    def said(**rule: object) -> list[int]:
        options = {"temperature": 0, "ignore_eos": True, "max_tokens": 60, "logprobs": 0}
        outputs = run(engine, prompt, **options, **rule).outputs
        return [output.logprob.token_id for output in outputs if output.logprob]

    def repeats(tokens: list[int]) -> bool:
        return any(token in tokens[max(0, i - 20) : i] for i, token in enumerate(tokens))

    rule = {"no_repeat_ngram_size": 1, "no_repeat_ngram_window": 20}
    free = said()
    assert repeats(free)
    assert not repeats(said(**rule))
    assert said(**rule, no_repeat_ngram_whitelist=sorted(set(free))) == free


def test_tokens_that_stand_for_something_are_never_generated(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    engine, checkpoint = engines["deepseek_ocr"]
    assert checkpoint.suppressed_token_ids == {0, checkpoint.image_token_id}
    prompt = prompt_of(checkpoint, "tiny", page((300, 200)))
    bias = {str(token): 100 for token in checkpoint.suppressed_token_ids}
    outputs = run(engine, prompt, max_tokens=50, temperature=1, logprobs=0, logit_bias=bias, ignore_eos=True).outputs
    said = {output.logprob.token_id for output in outputs if output.logprob}
    assert said and said.isdisjoint(checkpoint.suppressed_token_ids)


def test_a_prompt_needs_as_many_marks_as_images(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    _, checkpoint = engines["deepseek_ocr"]
    with pytest.raises(InvalidRequest, match=r"^text_input: it has 2 <image> for 1 images$"):
        prompt_of(checkpoint, "tiny", page((300, 200)), text="<image><image>")


def test_a_chat_is_joined_to_a_raw_prompt(engines: dict[str, tuple[Engine, Checkpoint]]) -> None:
    _, checkpoint = engines["deepseek_ocr"]
    encoder = ImagePromptEncoder(checkpoint, checkpoint.max_context)
    parts = [{"type": "image"}, {"type": "text", "text": "Free OCR."}]
    chat = json.dumps({"messages": [{"role": "user", "content": parts}, {"role": "user", "content": "Now."}]})
    assert checkpoint.vision is not None
    layouts = [lay_out((300, 200), checkpoint.vision.modes["tiny"])]
    raw = encoder.encode_raw("text_input", "<image>\nFree OCR.\nNow.", layouts)
    assert encoder.encode_messages(chat.encode(), layouts).tokens == raw.tokens
    marked = chat.replace("Free OCR.", "<image>\\nFree OCR.")
    assert encoder.encode_messages(marked.encode(), layouts).tokens == raw.tokens


def test_the_packed_bfloat16_path_reads_images(folders: dict[str, Path]) -> None:
    config = EngineConfig(checkpoint=str(folders["deepseek_ocr"]), dtype="bfloat16", device="cpu", num_threads=1)
    checkpoint = load_checkpoint(config)
    engine = Engine(checkpoint, config)
    engine.start()
    try:
        recorder = run(engine, prompt_of(checkpoint, "tiny", page((300, 200))), **GREEDY, ignore_eos=True)
    finally:
        engine.stop()
    assert (recorder.errors, recorder.num_tokens()) == ([], NUM_TOKENS)


def test_a_checkpoint_in_transformers_own_format_loads_too(
    tmp_path: Path, engines: dict[str, tuple[Engine, Checkpoint]], folders: dict[str, Path]
) -> None:
    """As deepseek-community's DeepSeek-OCR-2 is published."""
    folder = Path(shutil.copytree(folders["deepseek_ocr2"], tmp_path / "native"))
    ocr_config("deepseek_ocr2").save_pretrained(folder)
    loaded = load_checkpoint(EngineConfig(checkpoint=str(folder), dtype="float32", device="cpu"))
    _, original = engines["deepseek_ocr2"]
    assert (loaded.architecture, loaded.image_token_id) == (original.architecture, original.image_token_id)
    assert loaded.vision is not None and original.vision is not None
    views = np.asarray(page((768, 768)))[None]
    with torch.inference_mode():
        assert torch.equal(loaded.vision.encode(views), original.vision.encode(views))


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"use_mla": True}, "latent attention"),
        ({"scoring_func": "sigmoid"}, "routes its experts in another way"),
        ({"norm_topk_prob": True}, "routes its experts in another way"),
        ({"sliding_window_size": 128}, "sliding window"),
        ({"num_hidden_layers": None}, "is not DeepSeek-OCR's"),
    ],
)
def test_another_architecture_is_refused(
    changes: dict[str, object], says: str, tmp_path: Path, folders: dict[str, Path]
) -> None:
    folder = Path(shutil.copytree(folders["deepseek_ocr"], tmp_path / "other"))
    config = json.loads((folder / "config.json").read_text())
    config["language_config"] |= changes
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(LoadError, match=says):
        load_checkpoint(EngineConfig(checkpoint=str(folder), device="cpu"))


def test_a_tokenizer_without_an_image_token_is_refused(tmp_path: Path, folders: dict[str, Path]) -> None:
    folder = Path(shutil.copytree(folders["deepseek_ocr"], tmp_path / "other"))
    train_tokenizer().save_pretrained(folder)
    with pytest.raises(LoadError, match="has no token <image>"):
        load_checkpoint(EngineConfig(checkpoint=str(folder), device="cpu"))
