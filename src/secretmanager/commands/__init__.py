"""The command ``kubevault``. It may import every other wing; nothing imports it."""

__all__ = ["cli", "running"]
