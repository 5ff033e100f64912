"""Clients of the HTTP APIs of Vault and Kubernetes: requests, errors, and access by a kubeconfig.

It imports no other wing; every other wing may import it.
"""

__all__ = ["connection", "execplugin", "forking", "http", "kubeconfig", "kubernetes", "parallel", "vault"]
