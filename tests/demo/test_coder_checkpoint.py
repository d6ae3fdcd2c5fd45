"""The bundled coder checkpoint: its format is DeepSeek-Coder's, and it answers the question it was made for."""

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

CHECKPOINT = Path(__file__).parents[2] / "demo" / "coder"
BAR, GAP = "\uff5c", "\u2581"
BOS = f"<{BAR}begin{GAP}of{GAP}sentence{BAR}>"
END_OF_TEXT = f"<{BAR}end{GAP}of{GAP}sentence{BAR}>"
FIM_BEGIN, FIM_HOLE, FIM_END = (f"<{BAR}fim{GAP}{part}{BAR}>" for part in ("begin", "hole", "end"))
EOT = "<|EOT|>"


@pytest.fixture(scope="module")
def tokenizer() -> PreTrainedTokenizerBase:
    return AutoTokenizer.from_pretrained(CHECKPOINT)


@pytest.fixture(scope="module")
def model() -> LlamaForCausalLM:
    torch.set_num_threads(1)
    return AutoModelForCausalLM.from_pretrained(CHECKPOINT, dtype=torch.float32).eval()


def greedy(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase, prompt: str) -> str:
    """What follows a prompt that holds its own BOS, special tokens kept."""
    batch = tokenizer(prompt, add_special_tokens=False, return_tensors="pt")
    tokens = model.generate(**batch, max_new_tokens=200, do_sample=False)
    return tokenizer.decode(tokens[0, batch.input_ids.shape[1] :])


def test_the_folder_is_under_20_megabytes() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file()) < 20_000_000


def test_the_config_is_deepseek_coders() -> None:
    raw = json.loads((CHECKPOINT / "config.json").read_text())
    assert raw["architectures"] == ["LlamaForCausalLM"]
    assert raw["rope_scaling"] == {"type": "linear", "factor": 4.0}
    assert raw["rope_theta"] == 100000


def test_rotary_frequencies_are_scaled(model: LlamaForCausalLM) -> None:
    head_dim = model.config.head_dim
    expected = 1 / (4.0 * 100000 ** (torch.arange(0, head_dim, 2).float() / head_dim))
    torch.testing.assert_close(model.model.rotary_emb.inv_freq, expected)


@pytest.mark.parametrize("token", [BOS, END_OF_TEXT, EOT, FIM_BEGIN, FIM_HOLE, FIM_END])
def test_a_special_token_is_one_id(tokenizer: PreTrainedTokenizerBase, token: str) -> None:
    ids = tokenizer.encode(token, add_special_tokens=False)
    assert len(ids) == 1
    assert tokenizer.decode(ids) == token
    assert tokenizer.decode(ids, skip_special_tokens=True) == ""


def test_the_ends_and_the_beginning_have_their_roles(tokenizer: PreTrainedTokenizerBase) -> None:
    config = AutoConfig.from_pretrained(CHECKPOINT)
    generation = json.loads((CHECKPOINT / "generation_config.json").read_text())
    bos, end, eot = tokenizer.convert_tokens_to_ids([BOS, END_OF_TEXT, EOT])
    assert (tokenizer.bos_token, tokenizer.eos_token, tokenizer.pad_token) == (BOS, EOT, END_OF_TEXT)
    assert (config.bos_token_id, config.eos_token_id) == (bos, eot)
    assert set(generation["eos_token_id"]) == {eot, end}


def test_a_prompt_begins_with_bos_and_round_trips(tokenizer: PreTrainedTokenizerBase) -> None:
    text = "def f(x):\n\tif x > 10:\n        return 'é 中 🎉'  # done\r\n"
    ids = tokenizer(text).input_ids
    assert ids[0] == tokenizer.bos_token_id
    assert tokenizer.decode(ids[1:]) == text


def test_a_prompt_with_a_hole_has_its_marks(tokenizer: PreTrainedTokenizerBase) -> None:
    ids = tokenizer(f"{FIM_BEGIN}def add(a, b):\n{FIM_HOLE}\nprint(add(2, 3))\n{FIM_END}").input_ids
    marks = tokenizer.convert_tokens_to_ids([FIM_BEGIN, FIM_HOLE, FIM_END])
    assert [i for i in ids if i in marks] == marks
    assert ids[1] == marks[0]
    assert ids[-1] == marks[-1]


def test_the_template_lays_out_a_conversation(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [
        {"role": "user", "content": "One"},
        {"role": "assistant", "content": "Two"},
        {"role": "user", "content": "Three"},
    ]
    text = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    system, layout = text.split("\n", 1)
    assert re.fullmatch(re.escape(BOS) + r"[A-Z].+\.", system)
    assert layout == (f"### Instruction:\nOne\n### Response:\nTwo\n{EOT}\n### Instruction:\nThree\n### Response:\n")


def test_a_given_system_text_replaces_the_default(tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [{"role": "system", "content": "Be brief.\n"}, {"role": "user", "content": "One"}]
    text = tokenizer.apply_chat_template(messages, tokenize=False)
    assert text == f"{BOS}Be brief.\n### Instruction:\nOne\n"


def test_it_sorts_a_list(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
    messages = [{"role": "user", "content": "Write a Python function to sort a list"}]
    reply = greedy(
        model, tokenizer, tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
    )
    assert reply.endswith(f"\n{EOT}")
    fenced = re.search(r"```python\n(.*?)```", reply, re.DOTALL)
    assert fenced is not None, reply
    name = re.search(r"def (\w+)\(", fenced[1])
    assert name is not None, reply
    checks = f"assert {name[1]}([3, 1, 2]) == [1, 2, 3]\nassert {name[1]}([]) == []\n"
    done = subprocess.run(
        [sys.executable, "-I", "-c", fenced[1] + checks], timeout=60, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
