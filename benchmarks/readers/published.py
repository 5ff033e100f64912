"""The published dekeyrej-secretmanager, used as its own example does."""

import json
import logging
import sys

from secretmanager import SecretManager


def connect(setup):
    """Return a function that reads once, and raises an exception if the client reports a failure."""
    manager = SecretManager(
        {
            "SOURCE": "KUBEVAULT",
            "kube_config": setup["kubeconfig"],
            "service_account": setup["service_account"],
            "namespace": setup["namespace"],
            "vault_url": setup["vault_url"],
            "ca_cert": setup["vault_ca"],
            "role": setup["published_role"],
        },
        logging.CRITICAL,
    )
    place = {"transit_key": setup["transit_key"], "namespace": setup["namespace"], "read_type": "SECRET"}

    def read(name=setup["secret"], key=setup["key"]):
        asked = {**place, "secret_name": name, "read_key": key}
        return manager.execute("KUBEVAULT", "READ", manager, asked)["data"]

    return read


if __name__ == "__main__":
    # It logs each failure to standard error; here failures are counted.
    logging.disable(logging.CRITICAL)
    setup = json.loads(sys.argv[1])
    read = connect(setup)
    if setup["mode"] == "cold":
        assert read()
    else:
        import measure

        if setup["mode"] == "many":
            places = [(request["secret_name"], request["read_key"]) for request in setup["requests"]]
            measure.run(setup, lambda: [read(*place) for place in places])
        else:
            measure.run(setup, read)
