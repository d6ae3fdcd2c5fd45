"""DeepSeek-OCR. All of it is in `engine`."""

from engine.triton import OcrModel as TritonPythonModel

__all__ = ["TritonPythonModel"]
