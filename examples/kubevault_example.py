"""Reads the lab's sealed secret as a workload does, and shows its keys, not its values.

`make example` runs it. By hand: set -a; . .lab/env; set +a; python examples/kubevault_example.py
"""

import os

from secretmanager import SecretManager

with SecretManager(
    {
        "SOURCE": "KUBEVAULT",
        "kube_config": os.environ.get("KUBEVAULT_WORKLOAD_KUBECONFIG"),
        "service_account": "default",
        "namespace": "default",
        "vault_url": os.environ["VAULT_ADDR"],
        "role": os.environ.get("KUBEVAULT_ROLE", "demo"),
        "ca_cert": os.environ.get("VAULT_CACERT", True),
    }
) as manager:
    secrets = manager.read_secrets("matrix-secrets", "default", "SECRET", "secrets.json", "aes256-key")

print(f"default/matrix-secrets[secrets.json] holds: {', '.join(sorted(secrets))}")
