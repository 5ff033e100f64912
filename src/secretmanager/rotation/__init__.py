"""The life of a Transit key: a new version, Secrets brought to it without their plaintext, old versions retired.

It imports `sealing` for manifest files, `servers` and `sealed`. `manager`, `commands` and the plugins import it.
"""

__all__ = ["files", "keys", "lease", "planning", "proving", "rewrapper", "rotation", "single", "usage"]
