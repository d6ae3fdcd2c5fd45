"""Which sequences see the beginning of their prompts together."""

from __future__ import annotations

import pytest

from engine.cache import BLOCK_SIZE, BlockAllocator
from engine.detokenizer import TextStream
from engine.prefix_cache import PrefixCache
from engine.runner import Step
from engine.scheduler import Chunk, Scheduler
from engine.sequence import Sequence
from engine.shared_prefix import NO_SHARED_PREFIXES, PrefixFinder, SharedPrefixes
from tests.engine.recorder import Recorder

LONG, LONGER = 10 * BLOCK_SIZE, 20 * BLOCK_SIZE


def make(prompt: list[int]) -> Sequence:
    return Sequence(Recorder(prompt).request, 0, TextStream(None, []), 4)  # type: ignore[arg-type]


def own(number: int) -> list[int]:
    return [1000 * number + i for i in range(20)]


def shared_prefixes(sequences: list[Sequence]) -> SharedPrefixes:
    return PrefixFinder()(sequences)


@pytest.fixture
def scheduler() -> Scheduler:
    return Scheduler(PrefixCache(BlockAllocator(600 * BLOCK_SIZE)), max_step_tokens=10_000)


def decoding(scheduler: Scheduler, prompts: list[list[int]]) -> list[Sequence]:
    """Sequences of these prompts, all of which are computed and have their first token."""
    sequences = [make(prompt) for prompt in prompts]
    for sequence in sequences:
        scheduler.add(sequence)
        batch = scheduler.schedule()
        scheduler.advance(batch)
        for chunk in batch:
            chunk.sequence.tokens.append(1)
    return sequences


def test_the_longest_way_that_enough_go_together(scheduler: Scheduler) -> None:
    first = [[7] * LONG + own(i) for i in range(4)]
    second = [[7] * LONG + [8] * LONG + own(i) for i in range(10, 16)]
    alone = [own(20) * 10]
    sequences = decoding(scheduler, first + alone + second)
    found = shared_prefixes(sequences)
    # The second ones go together for longer than the first, who then are four alone.
    assert found.group_of == (1, 1, 1, 1, -1, 0, 0, 0, 0, 0, 0)
    assert found.extents == ((sequences[5].cache_start, LONGER), (sequences[0].cache_start, LONG))


def test_all_together_where_that_saves_more(scheduler: Scheduler) -> None:
    prompts = [[7] * LONG + [part] * BLOCK_SIZE + own(i) for part in (8, 9) for i in range(4)]
    found = shared_prefixes(decoding(scheduler, prompts))
    assert found.group_of == (0,) * 8
    assert found.extents[0][1] == LONG


def test_few_or_short_ones_go_alone(scheduler: Scheduler) -> None:
    three = decoding(scheduler, [[7] * LONG + own(i) for i in range(3)])
    assert shared_prefixes(three) == NO_SHARED_PREFIXES
    short = decoding(scheduler, [[8] * (2 * BLOCK_SIZE) + own(i) for i in range(6)])
    assert shared_prefixes(short) == NO_SHARED_PREFIXES


def test_what_is_not_computed_is_not_seen(scheduler: Scheduler) -> None:
    """The last row of a prompt is computed alone now and then, and may belong to what others share."""
    *others, last = decoding(scheduler, [[7] * LONG + own(i) for i in range(6)])
    assert shared_prefixes([*others, last]).group_of == (0,) * 6
    last.num_computed = LONG - 1
    assert shared_prefixes([*others, last]).group_of == (0, 0, 0, 0, 0, -1)


def test_others_are_looked_at_anew(scheduler: Scheduler) -> None:
    sequences = decoding(scheduler, [[7] * LONG + own(i) for i in range(5)])
    find = PrefixFinder()
    first = find(sequences)
    assert find(list(sequences)) is first
    assert find(sequences[1:]).extents == ((sequences[1].cache_start, LONG),)


def test_those_that_decode_later_are_looked_at_then(scheduler: Scheduler) -> None:
    sequences = decoding(scheduler, [[7] * LONG + own(i) for i in range(4)])
    find, computed = PrefixFinder(), sequences[0].num_computed
    sequences[0].num_computed = 1
    assert find(sequences) == NO_SHARED_PREFIXES
    sequences[0].num_computed = computed
    assert find(sequences).group_of == (0, 0, 0, 0)


def test_a_step_knows_its_single_rows(scheduler: Scheduler) -> None:
    sequences = decoding(scheduler, [[7] * LONG + own(i) for i in range(5)])
    prompt = make([7] * LONG + own(9))
    prompt.cache_start = 0
    batch = [Chunk(sequence, sequence.num_computed, len(sequence.tokens)) for sequence in sequences]
    assert Step.of([*batch, Chunk(prompt, LONG, LONG + 20)]).singles == sequences
