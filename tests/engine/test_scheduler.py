from __future__ import annotations

import pytest

from engine.cache import BLOCK_SIZE, BlockAllocator
from engine.detokenizer import TextStream
from engine.prefix_cache import PrefixCache
from engine.scheduler import Batch, Scheduler
from engine.sequence import Sequence
from tests.engine.recorder import Recorder


def make(num_prompt_tokens: int, max_tokens: int = 4, shared: int = 0, shares_prefix: bool = True) -> Sequence:
    """A sequence that has nothing in common with others but its first `shared` tokens."""
    prompt = [7] * shared + [id(object()) + i for i in range(num_prompt_tokens - shared)]
    text = TextStream(None, [])  # type: ignore[arg-type]
    return Sequence(Recorder(prompt).request, 0, text, max_tokens, shares_prefix=shares_prefix)


def compute(scheduler: Scheduler, batch: Batch) -> None:
    """What a step does to its sequences: each that was computed to its end gets a token."""
    scheduler.advance(batch)
    for chunk in batch:
        if chunk.is_last:
            chunk.sequence.tokens.append(1)


def spans(batch: Batch) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.end) for chunk in batch]


@pytest.fixture
def cache() -> PrefixCache:
    return PrefixCache(BlockAllocator(16 * BLOCK_SIZE))


def test_long_prompts_are_cut_and_decode_comes_first(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=8)
    short, long = make(3), make(20)
    scheduler.add(long)
    scheduler.add(short)
    batch = scheduler.schedule()
    assert spans(batch) == [(0, 8)]
    compute(scheduler, batch)
    compute(scheduler, scheduler.schedule())
    batch = scheduler.schedule()
    assert [chunk.sequence for chunk in batch] == [long, short]
    assert spans(batch) == [(16, 20), (0, 3)]
    compute(scheduler, batch)
    assert [chunk.num_tokens for chunk in scheduler.schedule()] == [1, 1]


def test_a_running_sequence_decodes_at_every_step_while_others_prefill(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=8)
    first = make(2, max_tokens=16)
    scheduler.add(first)
    compute(scheduler, scheduler.schedule())
    scheduler.add(make(30))
    for _ in range(5):
        batch = scheduler.schedule()
        assert batch[0].sequence is first
        assert batch[0].num_tokens == 1
        assert sum(chunk.num_tokens for chunk in batch) <= 8
        compute(scheduler, batch)


def test_after_enough_of_prompts_no_other_one_is_begun(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=100, enough_tokens=12)
    for num_tokens in (8, 8, 8, 30, 2):
        scheduler.add(make(num_tokens))
    batch = scheduler.schedule()
    assert spans(batch) == [(0, 8), (0, 8)]
    compute(scheduler, batch)
    assert spans(scheduler.schedule()) == [(8, 9), (8, 9), (0, 8), (0, 30)], "what decodes does not count"


def test_forced_tokens_of_answers_are_no_prompt(cache: PrefixCache) -> None:
    """Behind single ones, before all prompts, and however many they are."""
    scheduler = Scheduler(cache, max_step_tokens=100, enough_tokens=4)
    sequences = [make(2, max_tokens=20) for _ in range(3)]
    for sequence in sequences:
        scheduler.add(sequence)
    while not all(sequence.is_decoding for sequence in sequences):
        compute(scheduler, scheduler.schedule())
    for sequence in sequences[:2]:
        sequence.tokens += [1] * 5
    scheduler.add(make(8))
    batch = scheduler.schedule()
    assert [chunk.num_tokens for chunk in batch] == [1, 6, 6, 8]
    assert batch[0].sequence is sequences[2]


def test_waits_for_room_in_order_and_gives_it_back(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=512)
    big, second, small = make(10 * BLOCK_SIZE - 4), make(8 * BLOCK_SIZE - 4), make(2)
    for sequence in (big, second, small):
        scheduler.add(sequence)
    assert [chunk.sequence for chunk in scheduler.schedule()] == [big]  # small does not overtake second
    scheduler.remove(big)
    assert [chunk.sequence for chunk in scheduler.schedule()] == [second, small]
    for sequence in scheduler.sequences:
        scheduler.remove(sequence)
    assert cache.num_free_blocks == 16
    assert not scheduler.has_work


def test_a_waiting_sequence_can_be_removed(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=8)
    sequence = make(4)
    scheduler.add(sequence)
    scheduler.remove(sequence)
    assert not scheduler.has_work
    assert scheduler.schedule() == []


def test_what_prompts_have_in_common_is_computed_once(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=40)
    shared = 3 * BLOCK_SIZE
    first, second, third = (make(shared + 5, shared=shared + 2) for _ in range(3))
    scheduler.add(first)
    scheduler.add(second)
    assert spans(scheduler.schedule()) == [(0, 40)]
    compute(scheduler, scheduler.schedule())
    batch = scheduler.schedule()  # the second waits for a block that the first one computes now
    assert [chunk.sequence for chunk in batch] == [first]
    compute(scheduler, batch)
    batch = scheduler.schedule()
    assert spans(batch) == [(shared + 5, shared + 6), (shared, shared + 5)]
    assert batch[1].known == (0, BLOCK_SIZE, 2 * BLOCK_SIZE)
    compute(scheduler, batch)
    for sequence in (first, second):
        scheduler.remove(sequence)
    scheduler.add(third)
    batch = scheduler.schedule()
    assert spans(batch) == [(shared, shared + 5)]
    compute(scheduler, batch)
    assert third.request.num_cached_tokens == shared
    assert first.request.num_cached_tokens == 0


def test_what_is_not_shared_is_computed_for_everyone(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, 500)
    for _ in range(2):
        scheduler.add(make(4 * BLOCK_SIZE, shared=4 * BLOCK_SIZE, shares_prefix=False))
        batch = scheduler.schedule()
        assert [(chunk.start, chunk.known) for chunk in batch if chunk.num_tokens > 1] == [(0, ())]
        scheduler.advance(batch)
        scheduler.remove(scheduler.sequences[0])


def test_a_sequence_that_waits_for_anothers_blocks_goes_on_when_that_one_is_gone(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=BLOCK_SIZE)
    first, second = (make(3 * BLOCK_SIZE, shared=3 * BLOCK_SIZE) for _ in range(2))
    scheduler.add(first)
    scheduler.add(second)
    compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    batch = scheduler.schedule()
    assert spans(batch) == [(BLOCK_SIZE, 2 * BLOCK_SIZE)]
    assert batch[0].known == (0,)


def test_the_last_token_is_always_computed(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=512)
    first, second = (make(2 * BLOCK_SIZE, shared=2 * BLOCK_SIZE) for _ in range(2))
    scheduler.add(first)
    compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    scheduler.add(second)
    assert spans(scheduler.schedule()) == [(BLOCK_SIZE, 2 * BLOCK_SIZE)]


def test_an_answer_is_known_when_the_next_turn_comes(cache: PrefixCache) -> None:
    scheduler = Scheduler(cache, max_step_tokens=512)
    first = make(BLOCK_SIZE, max_tokens=BLOCK_SIZE + 1)
    scheduler.add(first)
    while first.num_output_tokens < first.max_tokens:
        compute(scheduler, scheduler.schedule())
    scheduler.remove(first)
    turn = Recorder([*first.tokens, 3]).request
    scheduler.add(Sequence(turn, 0, TextStream(None, []), 4))  # type: ignore[arg-type]
    assert spans(scheduler.schedule()) == [(2 * BLOCK_SIZE, 2 * BLOCK_SIZE + 2)]
