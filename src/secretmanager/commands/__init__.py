"""The command ``kubevault``: a module for each subcommand, their shared options, and the running of other programs.

It may import every other wing; nothing imports it. Needs the extra ``kubevault[cli]``.
"""

__all__ = [
    "connections",
    "envfile",
    "exec",
    "files",
    "info",
    "inject",
    "main",
    "memory",
    "options",
    "read",
    "ready",
    "renew_reviewer",
    "retire",
    "rewrap",
    "rotate",
    "rotation",
    "running",
    "seal",
    "statuses",
    "textfile",
    "wording",
]
