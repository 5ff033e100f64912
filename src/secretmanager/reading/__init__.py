"""Reading secrets: what to read, how a sealed Secret is opened, sources without Vault, and what is kept in memory.

It imports `servers` and `sealed`, and nothing of `sealing`. `notices`, `manager`, `commands` and the plugins import it.
"""

__all__ = ["cache", "opening", "plain", "reader", "requests", "verification"]
