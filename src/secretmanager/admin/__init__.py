"""Administration for the Ansible roles: Vault's resources, initialisation, nodes, tokens; what RBAC holds of ours.

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
    "rbac",
    "resources",
    "restoration",
    "reviewer",
    "tokens",
]
