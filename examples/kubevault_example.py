"""Reads the lab's sealed secret as a workload does, and shows its keys, not its values.

`make example` runs it. By hand: eval "$(make -s lab-env)"; .venv/bin/python examples/kubevault_example.py
"""

import os

from secretmanager import SecretManager

with SecretManager(
    {
        "SOURCE": "KUBEVAULT",
        "kube_config": None,
        "service_account": "default",
        "namespace": "default",
        "vault_url": os.environ.get("VAULT_ADDR", "https://127.0.0.1:8200"),
        "role": "demo",
        "ca_cert": True,
    }
) as manager:
    secrets = manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json", "aes256-key")

print(f"default/matrix-secrets[secrets.json] holds: {', '.join(sorted(secrets))}")
