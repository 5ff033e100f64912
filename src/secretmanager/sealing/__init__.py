"""Sealing secrets: what is wanted, the plan for each Secret, the writing of it, and what is sealed in which Secret.

It imports `servers` and `sealed`, and nothing of `reading`. `notices`, `commands` and the plugins import it.
"""

__all__ = ["exposure", "inspection", "manifestfile", "plan", "recreation", "sealer", "spec", "stores", "types"]
