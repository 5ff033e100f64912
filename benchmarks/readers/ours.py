"""SecretManager of this repository."""

import json
import sys

from secretmanager import SecretManager


def connect(setup):
    """Return a function that reads once, and the manager."""
    manager = SecretManager(
        {
            "SOURCE": "KUBEVAULT",
            "kube_config": setup["kubeconfig"],
            "service_account": setup["service_account"],
            "namespace": setup["namespace"],
            "vault_url": setup["vault_url"],
            "ca_cert": setup["vault_ca"],
            "role": setup["role"],
            "connections": setup.get("connections", 10),
        }
    )
    place = (setup["secret"], setup["namespace"], "SECRET", setup["key"], setup["transit_key"])
    return lambda: manager.read_secrets(*place), manager


if __name__ == "__main__":
    setup = json.loads(sys.argv[1])
    read, manager = connect(setup)
    if setup["mode"] == "cold":
        assert read()
    else:
        import measure

        if setup["mode"] == "many":
            measure.run(setup, lambda: manager.read_many(setup["requests"]), manager.close)
        else:
            measure.run(setup, read, manager.close)
