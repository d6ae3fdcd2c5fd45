from __future__ import annotations

import itertools
import random

from engine.cache import BLOCK_SIZE, BlockAllocator


def test_extents_never_overlap_and_all_come_back() -> None:
    allocator, numbers = BlockAllocator(100 * BLOCK_SIZE), random.Random(0)
    held: dict[int, int] = {}
    for _ in range(2000):
        if held and numbers.random() < 0.5:
            start = numbers.choice(list(held))
            del held[start]
            allocator.free(start)
        else:
            num_tokens = numbers.randint(1, 20 * BLOCK_SIZE)
            start = allocator.allocate(num_tokens)
            if start is not None:
                held[start] = num_tokens
        spans = sorted((start, start + num_tokens) for start, num_tokens in held.items())
        assert all(end <= begin for (_, end), (begin, _) in itertools.pairwise(spans))
        assert not spans or spans[-1][1] <= allocator.num_tokens
    for start in held:
        allocator.free(start)
    assert allocator.num_free_blocks == 100
    assert allocator.allocate(100 * BLOCK_SIZE) == 0


def test_no_room_gives_none() -> None:
    allocator = BlockAllocator(2 * BLOCK_SIZE)
    assert allocator.allocate(BLOCK_SIZE + 1) == 0
    assert allocator.allocate(1) is None


def test_an_extent_shrinks_from_both_ends() -> None:
    allocator = BlockAllocator(8 * BLOCK_SIZE)
    start = allocator.allocate(6 * BLOCK_SIZE)
    assert start == 0
    kept = allocator.shrink(start, 2, 3)
    assert (kept, allocator.num_blocks_at(kept), allocator.num_free_blocks) == (2 * BLOCK_SIZE, 3, 5)
    assert not allocator.fits(4 * BLOCK_SIZE)
    assert allocator.fits(8 * BLOCK_SIZE, [kept])
    allocator.free(kept)
    assert allocator.allocate(8 * BLOCK_SIZE) == 0
