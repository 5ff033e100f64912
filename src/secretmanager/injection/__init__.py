"""Workloads that get sealed values although their programs do not import this package: what a manifest needs for it.

Pure functions on parsed manifests, and on their text. It imports `documents`, `sealed`, `names` and `errors`.
"""

__all__ = ["container", "function", "objects", "options", "pods", "references", "secrets", "text"]
