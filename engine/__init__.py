"""The inference engine: iteration-level batching of token sequences, on CPU and GPU."""
