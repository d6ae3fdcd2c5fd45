from __future__ import annotations

import pytest

from engine.cache import BLOCK_SIZE, BlockAllocator
from engine.detokenizer import TextStream
from engine.scheduler import Batch, Scheduler
from engine.sequence import Sequence
from tests.engine.recorder import Recorder


def make(num_prompt_tokens: int, max_tokens: int = 4) -> Sequence:
    return Sequence(Recorder([7] * num_prompt_tokens).request, 0, TextStream(None, []), max_tokens)  # type: ignore[arg-type]


def compute(batch: Batch) -> None:
    """What a step does to its sequences: each that was computed to its end gets a token."""
    for chunk in batch:
        is_last = chunk.is_last
        chunk.sequence.num_computed = chunk.end
        if is_last:
            chunk.sequence.tokens.append(1)


def spans(batch: Batch) -> list[tuple[int, int]]:
    return [(chunk.start, chunk.end) for chunk in batch]


@pytest.fixture
def allocator() -> BlockAllocator:
    return BlockAllocator(16 * BLOCK_SIZE)


def test_long_prompts_are_cut_and_decode_comes_first(allocator: BlockAllocator) -> None:
    scheduler = Scheduler(allocator, max_step_tokens=8)
    short, long = make(3), make(20)
    scheduler.add(long)
    scheduler.add(short)
    batch = scheduler.schedule()
    assert spans(batch) == [(0, 8)]
    compute(batch)
    compute(scheduler.schedule())
    batch = scheduler.schedule()
    assert [chunk.sequence for chunk in batch] == [long, short]
    assert spans(batch) == [(16, 20), (0, 3)]
    compute(batch)
    assert [chunk.num_tokens for chunk in scheduler.schedule()] == [1, 1]


def test_a_running_sequence_decodes_at_every_step_while_others_prefill(allocator: BlockAllocator) -> None:
    scheduler = Scheduler(allocator, max_step_tokens=8)
    first = make(2, max_tokens=16)
    scheduler.add(first)
    compute(scheduler.schedule())
    scheduler.add(make(30))
    for _ in range(5):
        batch = scheduler.schedule()
        assert batch[0].sequence is first
        assert batch[0].num_tokens == 1
        assert sum(chunk.num_tokens for chunk in batch) <= 8
        compute(batch)


def test_waits_for_room_in_order_and_gives_it_back(allocator: BlockAllocator) -> None:
    scheduler = Scheduler(allocator, max_step_tokens=512)
    big, second, small = make(10 * BLOCK_SIZE - 4), make(8 * BLOCK_SIZE - 4), make(2)
    for sequence in (big, second, small):
        scheduler.add(sequence)
    assert [chunk.sequence for chunk in scheduler.schedule()] == [big]  # small does not overtake second
    scheduler.remove(big)
    assert [chunk.sequence for chunk in scheduler.schedule()] == [second, small]
    for sequence in scheduler.sequences:
        scheduler.remove(sequence)
    assert allocator.num_free_blocks == 16
    assert not scheduler.has_work


def test_a_waiting_sequence_can_be_removed(allocator: BlockAllocator) -> None:
    scheduler = Scheduler(allocator, max_step_tokens=8)
    sequence = make(4)
    scheduler.add(sequence)
    scheduler.remove(sequence)
    assert not scheduler.has_work
    assert scheduler.schedule() == []
