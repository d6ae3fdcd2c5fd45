"""Checkpoints small enough to be bundled, each with the script that trained it."""
