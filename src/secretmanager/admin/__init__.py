"""Vault's administration for the Ansible roles: resources, initialisation, nodes of a cluster, tokens.

It imports `servers`, and the modules that all wings share. The plugins import it; a workload does not.
"""

__all__ = [
    "cluster",
    "comparison",
    "connection",
    "definitions",
    "elevation",
    "files",
    "initialisation",
    "resources",
    "restoration",
    "tokens",
]
