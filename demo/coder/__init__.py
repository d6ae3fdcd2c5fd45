"""The coder demo checkpoint: DeepSeek-Coder in format, a few dozen Python tasks in content."""
