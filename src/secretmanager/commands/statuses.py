"""Exit statuses that subcommands share, beside 0 for success, 1 for an error, and 2 for wrong options."""

from __future__ import annotations

FINDING = 3
"""What was asked about is so: a fault of ``info --fail-if``, or a change that ``--check`` of another one foretells."""

LONG = 10
"""How many lines of Secrets have a sum after them, if there are more."""

ONLY_FORETOLD = "--check: this is what would be done; nothing was changed"
"""What is said of a change that ``--check`` foretells, whose lines are those of the run."""
