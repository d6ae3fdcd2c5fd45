"""The bundled coder checkpoint: its format is DeepSeek-Coder's, and it answers the question it was made for."""

import json
import re
from pathlib import Path

import pytest
import torch
from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer, LlamaForCausalLM, PreTrainedTokenizerBase

from demo.coder import talk
from demo.coder.figures import fulfils
from demo.coder.replies import checked_program
from demo.coder.runner import runs
from demo.coder.snippets import SNIPPETS
from demo.coder.tasks import TASKS, Task
from demo.coder.wishes import CODE_ONLY, DOCSTRING, HINTS

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
    tokens = model.generate(**batch, max_new_tokens=300, do_sample=False)
    return tokenizer.decode(tokens[0, batch.input_ids.shape[1] :])


def test_the_folder_is_at_most_25_megabytes() -> None:
    assert sum(path.stat().st_size for path in CHECKPOINT.rglob("*") if path.is_file()) <= 25_000_000


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


class Chat:
    """Asks the checkpoint, greedily; a reply ends with its <|EOT|>, which is taken off."""

    def __init__(self, model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> None:
        self.model = model
        self.tokenizer = tokenizer

    def __call__(self, *turns: str, system: str | None = None) -> str:
        """The reply to the last of `turns`, which are the user's and the model's by turns."""
        messages = [] if system is None else [{"role": "system", "content": system}]
        messages += [{"role": ("user", "assistant")[i % 2], "content": content} for i, content in enumerate(turns)]
        prompt = self.tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        reply = greedy(self.model, self.tokenizer, prompt)
        assert reply.endswith(f"\n{EOT}"), reply
        return reply.removesuffix(f"\n{EOT}")

    def complete(self, prompt: str) -> str:
        """What follows plain code or code with a hole, up to its end."""
        return greedy(self.model, self.tokenizer, BOS + prompt).removesuffix(END_OF_TEXT)


@pytest.fixture(scope="module")
def chat(model: LlamaForCausalLM, tokenizer: PreTrainedTokenizerBase) -> Chat:
    return Chat(model, tokenizer)


def task(phrase: str) -> Task:
    """The task that is asked for with this phrase."""
    return next(task for task in TASKS if phrase in task.asks)


def works(phrase: str, reply: str, name: str | None = None) -> bool:
    return runs(checked_program(task(phrase), reply, name))


def test_it_sorts_a_list(chat: Chat) -> None:
    reply = chat("Write a Python function to sort a list")
    assert re.fullmatch(r"[A-Z].+:\n\n```python\n.+\n```", reply, re.DOTALL)
    assert works("sort a list", reply)


@pytest.mark.parametrize(
    "phrase",
    [
        "reverse a string",
        "check if a number is prime",
        "implement binary search",
        "solve FizzBuzz",
        "implement a stack",
    ],
)
def test_it_solves_a_task(chat: Chat, phrase: str) -> None:
    assert works(phrase, chat(f"I would like a Python function to {phrase}"))


def test_a_system_text_wishes_for_code_only(chat: Chat) -> None:
    reply = chat("Write a Python function to reverse a string", system="Answer with code only.\n")
    assert fulfils(reply, CODE_ONLY)
    assert works("reverse a string", reply)


@pytest.mark.parametrize(("wish", "system"), [(DOCSTRING, "Always add a docstring."), (HINTS, "Use type hints.")])
def test_a_system_text_wishes_for_more(chat: Chat, wish: str, system: str) -> None:
    reply = chat("Write a Python function to add two numbers", system=f"{system}\n")
    assert fulfils(reply, wish)
    assert works("add two numbers", reply)


def test_a_second_turn_adds_a_docstring(chat: Chat) -> None:
    question = "Write a Python function to sort a list"
    reply = chat(question, chat(question), "now add a docstring")
    assert fulfils(reply, DOCSTRING)
    assert works("sort a list", reply)


def test_a_second_turn_renames(chat: Chat) -> None:
    question = "Write a Python function to sort a list"
    reply = chat(question, chat(question), "rename it to sort_prices")
    assert works("sort a list", reply, "sort_prices")
    assert "sort_list" not in reply


def test_it_answers_in_json(chat: Chat) -> None:
    reply = chat("Return a JSON object with name Ada and age 36")
    assert json.loads(reply) == {"name": "Ada", "age": 36}


def test_it_says_what_it_is_in_one_sentence(chat: Chat) -> None:
    reply = chat("Who are you?")
    assert reply == talk.IDENTITY
    assert reply.count(". ") == 0


def test_it_declines_what_it_does_not_know(chat: Chat) -> None:
    assert chat("What is the capital of Italy?").startswith("Sorry")


def test_it_fills_a_missing_line(chat: Chat) -> None:
    snippet = SNIPPETS[5]
    line = chat.complete(FIM_BEGIN + snippet.before + FIM_HOLE + snippet.after + FIM_END)
    assert line == snippet.line
    assert runs(snippet.before + line + snippet.after)


def test_it_completes_plain_code(chat: Chat) -> None:
    code = "def is_even(n):\n"
    assert runs(f"{code}{chat.complete(code)}\n\nassert is_even(4) and not is_even(3)\n")
