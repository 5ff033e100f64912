"""Delivery to programs that do not import this package: values as files or variables, and waiting for the servers.

It imports `notices` and what is below. `commands` imports it; `manager` does not know it.
"""

__all__ = ["follow", "layout", "notify", "values", "volume", "waiting"]
