from __future__ import annotations

import math
from collections import Counter

import pytest
import torch
from torch import Tensor

from engine import kernels
from engine.detokenizer import TextStream
from engine.penalties import Penalties
from engine.sampler import SampledToken, Sampler
from engine.sequence import Sequence
from tests.engine.recorder import Recorder

EOS = 1
CPU = torch.device("cpu")
LOGITS = torch.tensor([0.5, 3.0, 2.0, 1.0, -1.0])


@pytest.fixture(autouse=True, params=["loops", "torch"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Tokens are drawn by compiled loops on CPU, and by torch elsewhere."""
    if request.param == "torch":
        monkeypatch.setattr(kernels, "takes", lambda _: False)


def make(output: list[int] | None = None, prompt: list[int] | None = None, **params: object) -> Sequence:
    request = Recorder(prompt or [0], **params).request
    sequence = Sequence(request, 0, TextStream(None, []), 10)  # type: ignore[arg-type]
    sequence.tokens += output or []
    sequence.penalties = Penalties(request.params, request.num_prompt_tokens) if request.params.has_penalties else None
    return sequence


def sample(sequence: Sequence, logits: Tensor = LOGITS) -> SampledToken:
    return Sampler(frozenset({EOS}), frozenset(), CPU).sample(logits[None].clone(), [sequence]).read()[0]


def append_sample(sequence: Sequence, logits: Tensor = LOGITS) -> int:
    token = sample(sequence, logits).token_id
    sequence.tokens.append(token)
    return token


def draw(num_draws: int = 2000, **params: object) -> dict[int, float]:
    """Share of each token in many draws from one seeded sequence."""
    sequence = make(seed=0, **params)
    counts = Counter(append_sample(sequence) for _ in range(num_draws))
    return {token: count / num_draws for token, count in counts.items()}


def test_greedy_takes_the_best() -> None:
    assert sample(make(temperature=0)).token_id == 1


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.0])
def test_draws_follow_the_distribution(temperature: float) -> None:
    shares = draw(4000, temperature=temperature)
    expected = (LOGITS / temperature).softmax(-1).tolist()
    assert all(abs(shares.get(token, 0) - share) < 0.03 for token, share in enumerate(expected))


@pytest.mark.parametrize(
    ("params", "kept"),
    [
        ({"top_k": 1}, {1}),
        ({"top_k": 2}, {1, 2}),
        ({"top_k": -1}, {0, 1, 2, 3, 4}),
        ({"top_k": 50}, {0, 1, 2, 3, 4}),
        ({"top_p": 0.5}, {1}),  # the probabilities are .06 .61 .22 .08 .01
        ({"top_p": 0.7}, {1, 2}),
        ({"top_p": 0.9}, {1, 2, 3}),
        ({"min_p": 0.3}, {1, 2}),
        ({"min_p": 0.1}, {1, 2, 3}),
        ({"top_k": 3, "top_p": 0.6}, {1}),
        ({"logit_bias": {"1": -100, "4": 100}}, {4}),
    ],
)
def test_candidates(params: dict[str, object], kept: set[int]) -> None:
    assert set(draw(**params)) == kept


@pytest.mark.parametrize(
    "params",
    [
        {"top_k": 40},
        {"top_p": 0.9},
        {"top_p": 0.3, "temperature": 0.7},
        {"min_p": 0.05},
        {"top_k": 300, "top_p": 0.95, "temperature": 1.3},
        {"top_k": 5, "min_p": 0.4, "top_p": 0.8},
    ],
)
def test_draws_of_a_large_vocabulary_follow_the_distribution(params: dict[str, float]) -> None:
    torch.manual_seed(0)
    logits = 3 * torch.randn(4000).double()
    weights = (logits / params.get("temperature", 1)).softmax(-1)
    weights[weights < params.get("min_p", 0) * weights.max()] = 0
    best, order = weights.sort(descending=True)
    best[int(params.get("top_k", 4000)) :] = 0
    best[best.cumsum(-1) - best >= params.get("top_p", 1) * best.sum()] = 0
    expected = torch.zeros(4000).double().scatter(0, order, best / best.sum())
    sequence = make(seed=0, **params)
    shares = torch.zeros(4000).double()
    for _ in range(1000):
        shares[append_sample(sequence, logits.float())] += 1 / 1000
    assert not shares[expected == 0].any()
    assert (shares - expected).abs().max() < 0.06


def test_top_p_beyond_the_sorted_candidates_is_exact() -> None:
    flat = torch.zeros(2000)
    sequence = make(seed=0, top_p=0.9)
    drawn = {append_sample(sequence, flat) for _ in range(4000)}
    assert len(drawn) > 1400  # of the 1,800 that hold nine tenths: far more than are sorted first


def test_top_p_of_more_than_the_sorted_candidates_of_top_k_is_exact() -> None:
    flat = torch.zeros(2000)
    sequence = make(seed=0, top_k=1000, top_p=0.9)
    drawn = {append_sample(sequence, flat) for _ in range(3000)}
    assert 800 < len(drawn) <= 905


def test_a_top_k_beyond_the_vocabulary_is_all_of_it() -> None:
    assert set(draw(top_k=2**31 - 1)) == {0, 1, 2, 3, 4}


def test_penalties() -> None:
    seen = {"output": [1, 1], "prompt": [2]}
    assert sample(make(**seen, temperature=0, presence_penalty=0.9)).token_id == 1  # 3.0 - 0.9
    assert sample(make(**seen, temperature=0, presence_penalty=1.1)).token_id == 2
    assert sample(make(**seen, temperature=0, frequency_penalty=0.4)).token_id == 1  # 3.0 - 2 * 0.4
    assert sample(make(**seen, temperature=0, frequency_penalty=0.6)).token_id == 2
    # It counts the prompt too: 3.0 / 3.5, 2.0 / 3.5, and 1.0 is best.
    assert sample(make(**seen, temperature=0, repetition_penalty=3.5)).token_id == 3
    assert sample(make(**seen, temperature=0, frequency_penalty=-2.0)).token_id == 1


def test_no_end_before_min_tokens() -> None:
    assert sample(make(output=[5], temperature=0, min_tokens=2)).token_id == 2
    assert sample(make(output=[5], temperature=0, min_tokens=2, stop_token_ids=[2])).token_id == 3
    assert sample(make(output=[5, 5], temperature=0, min_tokens=2)).token_id == EOS


def test_a_seeded_row_does_not_depend_on_its_neighbours() -> None:
    sampler = Sampler(frozenset({EOS}), frozenset(), CPU)
    torch.manual_seed(0)
    rows = torch.randn(8, 50)
    params = [{"seed": i, "temperature": 0.7 + i / 10, "top_k": i * 5, "top_p": 1 - i / 20} for i in range(8)]
    together = sampler.sample(rows.clone(), [make(**p) for p in params]).read()
    alone = [sampler.sample(rows[i : i + 1].clone(), [make(**p)]).read()[0] for i, p in enumerate(params)]
    assert together == alone


def test_seeds_and_choices_differ() -> None:
    def tokens(seed: int | None, choice: int) -> list[int]:
        sequence = Sequence(Recorder([0], seed=seed).request, choice, TextStream(None, []), 10)  # type: ignore[arg-type]
        return [append_sample(sequence, torch.zeros(1000)) for _ in range(5)]

    assert tokens(3, 0) == tokens(3, 0)
    assert tokens(3, 0) != tokens(4, 0)
    assert tokens(3, 0) != tokens(3, 1)
    assert tokens(None, 0) != tokens(None, 0)


def test_logprobs_are_the_model_s_own() -> None:
    expected = LOGITS.log_softmax(-1)
    logprob = sample(make(temperature=0, logprobs=2, logit_bias={"4": 100})).logprob
    assert logprob is not None
    assert (logprob.token_id, [token for token, _ in logprob.top]) == (4, [1, 2])
    assert math.isclose(logprob.logprob, float(expected[4]), rel_tol=1e-5)
    assert math.isclose(logprob.top[0][1], float(expected[1]), rel_tol=1e-5)
    assert sample(make(temperature=0, logprobs=0)).logprob is not None
    assert sample(make(temperature=0)).logprob is None


def test_a_tiny_temperature_is_greedy() -> None:
    assert sample(make(temperature=1e-9)).token_id == 1


def test_numbers_beyond_all_bounds_still_give_a_token() -> None:
    everything = list(range(5))
    assert sample(make(min_tokens=5, stop_token_ids=everything, top_k=2)).token_id in everything
    assert sample(make(min_tokens=5, stop_token_ids=everything)).token_id in everything
    overflow = torch.tensor([torch.inf, 1.0, torch.nan, 0.0, 0.0])
    for params in ({}, {"top_p": 0.5}, {"top_k": 2}, {"min_p": 0.5}):
        assert sample(make(**params), overflow).token_id in everything
