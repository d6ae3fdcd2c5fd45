"""The inference engine: iteration-level batching of token sequences, on CPU and GPU."""

import os

# torch reads it at its first allocation. In pages of 2 MiB weights and caches are read faster on CPU.
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")
