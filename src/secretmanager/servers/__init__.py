"""The HTTP APIs of Vault and Kubernetes: what they answer, in what words they refuse, and where a kubeconfig points.

It knows nobody above it; every other wing may import it.
"""

__all__ = ["http", "kubeconfig", "kubernetes", "vault"]
