from __future__ import annotations

import random

from engine.cache import BLOCK_SIZE, BlockAllocator
from engine.prefix_cache import PrefixCache, block_keys, runs


def blocks(*numbers: int) -> list[bytes]:
    """Keys of a prompt made of these blocks."""
    return block_keys([number for number in numbers for _ in range(BLOCK_SIZE)])


def held(cache: PrefixCache, num_blocks: int) -> int:
    start = cache.allocate(num_blocks * BLOCK_SIZE)
    assert start is not None
    return start


def left(cache: PrefixCache, *numbers: int) -> None:
    """A sequence of these blocks came and went."""
    cache.release(held(cache, len(numbers) + 1), blocks(*numbers))


def test_keys_say_what_stands_before() -> None:
    assert blocks(1, 2)[1] != blocks(3, 2)[1]
    assert blocks(1, 2, 3)[:2] == blocks(1, 2)
    assert block_keys([5] * (BLOCK_SIZE - 1)) == []
    tokens = list(range(3 * BLOCK_SIZE))
    first = block_keys(tokens[:BLOCK_SIZE])
    assert first + block_keys(tokens[BLOCK_SIZE:], first[-1]) == block_keys(tokens)


def test_the_longest_known_beginning_is_found() -> None:
    cache = PrefixCache(BlockAllocator(16 * BLOCK_SIZE))
    left(cache, 1, 2, 3)
    assert cache.find(blocks(1, 2, 9)) == [0, BLOCK_SIZE]
    assert cache.find(blocks(2, 3)) == []


def test_what_is_left_behind_is_kept_once() -> None:
    cache = PrefixCache(BlockAllocator(16 * BLOCK_SIZE))
    left(cache, 1, 2)
    left(cache, 1, 2)
    assert cache._allocator.num_free_blocks == 14
    left(cache, 1, 2, 3)
    assert cache._allocator.num_free_blocks == 13
    assert len(cache.find(blocks(1, 2, 3))) == 3
    assert cache.num_free_blocks == 16


def test_the_least_recently_used_goes_first_and_ends_before_beginnings() -> None:
    cache = PrefixCache(BlockAllocator(6 * BLOCK_SIZE))
    left(cache, 1)
    left(cache, 2)
    left(cache, 1, 3)
    cache.find(blocks(2))
    cache.find(blocks(1, 3))
    held(cache, 2)
    assert len(cache.find(blocks(2))) == 1  # there was room without it
    cache.find(blocks(1, 3))
    held(cache, 2)
    assert len(cache.find(blocks(2))) == 0
    assert len(cache.find(blocks(1, 3))) == 2
    held(cache, 1)
    assert len(cache.find(blocks(1, 3))) == 1


def test_what_a_sequence_uses_is_never_given_up() -> None:
    cache = PrefixCache(BlockAllocator(4 * BLOCK_SIZE))
    start = held(cache, 3)
    cache.note(start, blocks(1, 2))
    assert cache.allocate(2 * BLOCK_SIZE) is None
    assert cache.find(blocks(1, 2)) == [start, start + BLOCK_SIZE]


def test_nothing_is_given_up_for_what_does_not_fit_anyway() -> None:
    cache = PrefixCache(BlockAllocator(8 * BLOCK_SIZE))
    left(cache, 1, 2)
    between = held(cache, 3)
    left(cache, 3, 4)
    assert cache.num_free_blocks == 5
    assert cache.allocate(5 * BLOCK_SIZE) is None  # two and three, with a sequence between them
    assert len(cache.find(blocks(1, 2))) == len(cache.find(blocks(3, 4))) == 2
    cache.release(between, [])
    assert cache.allocate(8 * BLOCK_SIZE) == 0


def test_places_always_hold_what_their_keys_say() -> None:
    """Against a cache that is written to: whatever is found has the right blocks in it."""
    numbers, cache = random.Random(0), PrefixCache(BlockAllocator(40 * BLOCK_SIZE))
    contents: dict[int, bytes] = {}
    live: dict[int, list[bytes]] = {}
    for _ in range(3000):
        if live and numbers.random() < 0.5:
            start = numbers.choice(list(live))
            cache.release(start, live.pop(start))
            continue
        keys = blocks(*(numbers.randrange(3) for _ in range(numbers.randint(1, 8))))
        new_start = cache.allocate((len(keys) + 1) * BLOCK_SIZE)
        if new_start is None:
            continue
        found = cache.find(keys)
        assert [contents[position] for position in found] == keys[: len(found)]
        contents |= {new_start + block * BLOCK_SIZE: key for block, key in enumerate(keys)}
        cache.note(new_start, keys[len(found) :], len(found))
        live[new_start] = keys
    for start, keys in live.items():
        cache.release(start, keys)
    assert cache.num_free_blocks == 40
    assert cache.allocate(40 * BLOCK_SIZE) == 0


def test_neighbouring_blocks_are_one_run() -> None:
    assert runs([]) == []
    assert runs([0, 16, 64, 80, 96, 32]) == [(0, 32), (64, 48), (32, 16)]
