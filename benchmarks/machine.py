"""What a table's heading says about where it was measured."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import torch
import transformers


def machine() -> str:
    """Processor, cores and versions, in one line."""
    names = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = names[0].split(": ")[1] if names else platform.machine()
    return (
        f"{processor}, {os.cpu_count()} cores, Python {platform.python_version()}, "
        f"torch {torch.__version__}, transformers {transformers.__version__}"
    )
