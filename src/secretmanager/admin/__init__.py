"""Vault's administration for the Ansible roles: resources, initialisation, tokens.

It imports `servers`, and the modules that all wings share. The plugins import it; a workload does not.
"""

__all__ = ["comparison", "connection", "definitions", "files", "initialisation", "resources", "tokens"]
