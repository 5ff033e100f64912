"""playbooks/remove.yml on a Vault host and one of MicroK8s (its stand-in), after site.yml; run by tests/on-hosts.

The tests are one story: each goes on where the one before ended.
"""

from __future__ import annotations

import base64
import copy
import json
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
from support.ansible import Run
from support.microk8s_stand_in.pack import pack_of_the_lab
from support.search import below
from support.site import Site, serve_release

from kubevault_lab.hosts import machine, snapd

VAULT, MICROK8S = NAMES = ("vault.example.org", "microk8s.example.org")
SECRET = {
    "name": "shop-database",
    "namespace": "shop",
    "transit_key": "shop-key",
    "scope": "strict",
    "data": {"dsn": "postgresql://shop:example@database/shop"},
}
CHANGED_BY_THE_HOST = re.compile(
    # Packages that roles install, and what services of Debian's keep.
    r"/(run|tmp|proc|sys|dev|home|root|snap)(/|$)|/var/(cache|tmp|log|lib/(apt|dpkg|systemd|snapd|private|logrotate))(/|$)"
    r"|/etc/(passwd|group|shadow|gshadow|subuid|subgid)-$|/etc/\.|\.pyc$|__pycache__"
    # The base snaps, which stay, and where snapd has something for each snap.
    r"|/etc/systemd/(system|user)/(.*/)?(snap-(bare|snapd)-\w+\.mount|[a-z-]+\.target\.wants)$"
    r"|/etc/modprobe\.d$|/etc/udev/rules\.d/70-snap\.snapd\.rules$"
)


class Servers(Site):
    """Two hosts, and the example inventory for them."""

    def __init__(self, folder: Path, variables: Mapping[str, Any], hosts: Sequence[machine.Host]) -> None:
        super().__init__(folder, variables)
        self.hosts = {host.name: host for host in hosts}

    def remove(self, *arguments: str, data: bool = False, answer: str = "yes", fails: bool = False) -> Run:
        told = {"kubevault_remove_confirmed": answer, **({"kubevault_remove_data": True} if data else {})}
        return self.play("playbooks/remove.yml", f"--extra-vars={json.dumps(told)}", *arguments, fails=fails)

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.hosts[MICROK8S].run("/snap/bin/microk8s", "kubectl", *arguments, stdin=stdin).stdout

    def sealed(self) -> Any:
        """What Kubernetes has of the Secret."""
        return json.loads(self.kubectl("get", "secret", "shop-database", "--namespace=shop", "--output=json"))["data"]


def changes(run: Run) -> dict[str, list[str]]:
    """Return the tasks that changed something, by host, with their items."""
    found: dict[str, list[str]] = {}
    for task in re.split(r"^TASK \[", run.output, flags=re.M)[1:]:
        for host, item in re.findall(r"^changed: \[([^\]]+)\](.*)$", task, re.M):
            found.setdefault(host.partition(" -> ")[0], []).append(f"{task.partition(']')[0]}{item}")
    return found


def content(host: machine.Host) -> set[str]:
    """Return the paths on a host that somebody made, and its users and groups."""
    paths = {
        f"/{path.relative_to(host.root)}"
        for folder in ("etc", "opt", "usr/local", "var")
        for path in below(host.root / folder)
    }
    names = [
        line.split(":")[0]
        for file in ("passwd", "group")
        for line in (host.root / "etc" / file).read_text().splitlines()
    ]
    return {path for path in paths if not CHANGED_BY_THE_HOST.search(path)} | set(names)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Servers]:
    folder = tmp_path_factory.mktemp("remove")
    pack_of_the_lab(folder / "snaps")
    serve_release()
    hosts = machine.create([VAULT]) + machine.create([MICROK8S], snapd.ARGUMENTS)
    snapd.start(hosts[1])
    differences = {
        "kubevault_owner": "servers",
        "vault_server_firewall": True,
        "vault_server_firewall_clients": ["198.51.100.0/24"],
        "vault_snapshot_age_recipients": re.findall("public key: (.+)", hosts[0].run("age-keygen").stdout),
        "kubevault_vaulted_secrets": [SECRET],
        "microk8s_snap_file": str(folder / "snaps/microk8s.snap"),
        "microk8s_base_snaps": [{"file": str(folder / f"snaps/{name}.snap")} for name in ("bare", "snapd")],
        "microk8s_snap_dangerous": True,
    }
    yield Servers(folder, differences, hosts)
    for host in hosts:
        host.remove()


@pytest.fixture(scope="module")
def before(site: Servers) -> dict[str, set[str]]:
    """What is on the hosts before anything is installed."""
    return {name: content(host) for name, host in site.hosts.items()}


def test_where_nothing_is_installed_nothing_is_removed(site: Servers, before: dict[str, set[str]]) -> None:
    assert changes(site.remove(data=True)) == {}


def test_nothing_is_removed_unless_somebody_says_yes(site: Servers) -> None:
    site.play("site.yml")
    run = site.remove(data=True, answer="no", fails=True)
    assert "Nothing was changed" in run.output
    assert changes(run) == {}
    assert site.client(VAULT, token=None).request("GET", "sys/health").ok


def test_the_same_vault_comes_back_and_reads_what_was_sealed_before(site: Servers) -> None:
    sealed = site.sealed()
    host = f"--limit={VAULT}"
    predicted = changes(site.remove("--check", host))
    run = site.remove(host)
    assert changes(run) == predicted
    kept = "/opt/vault/data", "/var/log/vault", "/var/lib/vault-snapshot", str(site.secrets / "vault-unseal-keys.json")
    assert not [path for path in kept if path not in run.output]
    assert changes(site.remove(host)) == {}
    root = site.hosts[VAULT].root
    assert not (root / "etc/vault.d").exists()
    assert (root / "opt/vault/data/vault.db").exists()
    assert "vault" not in site.hosts[VAULT].run("nft", "list", "tables").stdout
    site.play("site.yml")  # it ends with the verification of each workload's Secrets
    assert site.sealed() == sealed


def test_in_servers_that_stay_a_privileged_token_is_needed_and_secrets_and_keys_stay(site: Servers) -> None:
    sealed = site.sealed()
    external = copy.copy(site)
    external.inventory = site.folder / "stay"
    external.secrets = external.inventory / "secrets"
    shutil.copytree(site.inventory, external.inventory)
    external.set_groups({"vault": [], "microk8s": []})
    variables = {"kubevault_vault_url": f"https://{VAULT}:8200", "vault_operator_snapshot_token_file": ""}
    external.set_variables("tests-stay", {**variables, "vault_operator_elevate": False})

    refused = external.remove(fails=True)
    assert "Only a privileged token may write this in Vault: sys/auth/kubernetes (deleted)" in refused.output
    assert changes(refused) == {}

    token = external.secrets / "vault-root-token"
    token.touch(0o600)
    token.write_text(privileged_token(site))
    predicted = changes(external.remove("--check"))
    assert changes(external.remove()) == predicted
    assert changes(external.remove()) == {}
    assert not token.exists()
    assert site.sealed() == sealed
    left = site.kubectl("get", "role,rolebinding,configmap", "--namespace=shop", "--output=name").split()
    assert left == ["configmap/kube-root-ca.crt"]
    client = site.client(VAULT, token=privileged_token(site))
    assert list(client.request("GET", "sys/auth").json()["data"]) == ["token/"]
    assert client.request("GET", "transit/keys/shop-key").ok


def test_data_is_deleted_if_somebody_says_so_and_nothing_is_left(site: Servers, before: dict[str, set[str]]) -> None:
    predicted = changes(site.remove("--check", data=True))
    assert changes(site.remove(data=True)) == predicted
    assert changes(site.remove(data=True)) == {}
    assert {name: content(host) - before[name] for name, host in site.hosts.items()} == {name: set() for name in NAMES}
    assert not (site.inventory / "pki").exists()
    assert list(site.secrets.iterdir()) == []


def test_a_host_whose_installation_failed_is_cleared(site: Servers, before: dict[str, set[str]]) -> None:
    host = site.hosts[VAULT]
    site.play("playbooks/servers.yml", f"--limit={VAULT}", "--extra-vars=vault_server_binary=/bin/false", fails=True)
    site.remove(f"--limit={VAULT}", data=True)
    assert content(host) - before[VAULT] == set()
    assert host.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""


def privileged_token(site: Servers) -> str:
    """Return a root token, made by the unseal key."""
    (key,) = json.loads((site.secrets / "vault-unseal-keys.json").read_text())["unseal_keys_b64"]
    client = site.client(VAULT, token=None)
    attempt = client.request("PUT", "sys/generate-root/attempt", {}).json()
    done = client.request("PUT", "sys/generate-root/update", {"key": key, "nonce": attempt["nonce"]}).json()
    encoded = base64.b64decode(done["encoded_token"] + "==")
    return bytes(one ^ other for one, other in zip(encoded, attempt["otp"].encode(), strict=True)).decode()
