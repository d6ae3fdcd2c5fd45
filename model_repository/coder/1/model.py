"""The coder LLM. All of it is in `engine`."""

from engine.triton import CoderModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
