"""The published dekeyrej-secretmanager, used as its own example does."""

import json
import logging
import sys
import time

from secretmanager import SecretManager


def connect(setup):
    """Return the client."""
    return SecretManager(
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


def place(setup, name, key):
    """Return a Secret's place, as the client's verbs take it."""
    place = {"transit_key": setup["transit_key"], "namespace": setup["namespace"], "read_type": "SECRET"}
    return {**place, "secret_name": name, "read_key": key}


def reader(setup):
    """Return a function that reads once, and raises an exception if the client reports a failure."""
    manager = connect(setup)

    def read(name=setup["secret"], key=setup["key"]):
        return manager.execute("KUBEVAULT", "READ", manager, place(setup, name, key))["data"]

    return read


def rewrite(setup):
    """Return the time that each Secret takes to be read, encrypted again and written, in seconds."""
    manager = connect(setup)
    places = [place(setup, name, setup["key"]) for name in setup["secrets"]]
    for each in places:
        manager.execute("KUBEVAULT", "CREATE", manager, each, json.dumps({"password": "x" * 48}))
    manager.execute("KUBEVAULT", "ROTATE", manager, setup["transit_key"])
    times = []
    for each in places:
        start = time.perf_counter()
        found = manager.execute("KUBEVAULT", "READ", manager, each)["data"]
        written = manager.execute("KUBEVAULT", "CREATE", manager, each, json.dumps(found))
        times.append(time.perf_counter() - start)
        assert written["status"] == "success"
    return times


if __name__ == "__main__":
    # It logs each failure to standard error; here failures are counted.
    logging.disable(logging.CRITICAL)
    setup = json.loads(sys.argv[1])
    if setup["mode"] == "rewrite":
        print(json.dumps({"times": rewrite(setup)}))
        sys.exit()
    read = reader(setup)
    if setup["mode"] == "cold":
        assert read()
    else:
        import measure

        if setup["mode"] == "many":
            places = [(request["secret_name"], request["read_key"]) for request in setup["requests"]]
            measure.run(setup, lambda: [read(*place) for place in places])
        else:
            measure.run(setup, read)
