"""Vault's administration for the Ansible roles: resources, initialisation, tokens.

It imports `servers` alone. The plugins import it; a workload does not.
"""

__all__ = ["comparison", "connection", "definitions", "files", "initialisation", "resources", "tokens"]
