"""Who we are to Vault: one module of log-in methods for services, the command, the lookup plugin and Ansible's modules.

It imports `servers` alone. `manager`, `commands` and the plugins import it.
"""

__all__ = ["gcp", "methods", "session"]
