"""Vault administration for the Ansible roles: resources, initialisation, tokens.

They use hvac, which comes with the extra ``kubevault[ansible]``; no workload imports them.
"""
