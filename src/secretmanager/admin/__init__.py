"""Vault administration for the Ansible roles: resources, initialisation, tokens.

They build on the same client as the workloads, which do not import them.
"""
