"""Restarts of workloads whose Secrets have other values than their pods were started for.

It imports `sealing` for what was sealed, `servers` and `sealed`. `commands` and the plugins import it.
"""

__all__ = ["finding", "gitfile", "live", "rollout", "workloads"]
