"""Reads secrets that Vault sealed and Kubernetes keeps, by nothing but a service account."""

from .errors import SecretManagerError
from .manager import SecretManager

__all__ = ["SecretManager", "SecretManagerError", "__version__"]

__version__ = "0.1.0"
