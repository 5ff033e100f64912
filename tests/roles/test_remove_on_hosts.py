"""playbooks/remove.yml on a Vault host and one of MicroK8s (its stand-in), after site.yml; run by tests/on-hosts.

The tests are one story: each goes on where the one before ended.
"""

from __future__ import annotations

import base64
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml
from support.ansible import ROOT, Run, environment, run_playbook
from support.microk8s_stand_in.pack import pack_of_the_lab

from kubevault_lab.hosts import machine, snapd
from kubevault_lab.hosts.mirror import URL
from kubevault_lab.hosts.sandbox import STATE
from secretmanager.servers.vault import VaultClient

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


@dataclass(frozen=True)
class Site:
    """Two hosts, and a copy of the example inventory for them."""

    inventory: Path
    hosts: dict[str, machine.Host]

    def run(self, playbook: str, *arguments: str, fails: bool = False) -> Run:
        env = environment(ANSIBLE_CONFIG=str(ROOT / "ansible.cfg"), ANSIBLE_HOME=str(ROOT / ".ansible"))
        return run_playbook(playbook, f"--inventory={self.inventory}", *arguments, env=env, fails=fails)

    def remove(self, *arguments: str, data: bool = False, answer: str = "yes", fails: bool = False) -> Run:
        told = {"kubevault_remove_confirmed": answer, **({"kubevault_remove_data": True} if data else {})}
        return self.run("playbooks/remove.yml", f"--extra-vars={json.dumps(told)}", *arguments, fails=fails)

    def secret(self, name: str) -> Path:
        return self.inventory / "secrets" / name

    def kubectl(self, *arguments: str, stdin: str = "") -> str:
        return self.hosts[MICROK8S].run("/snap/bin/microk8s", "kubectl", *arguments, stdin=stdin).stdout

    def sealed(self) -> Any:
        """What Kubernetes has of the Secret."""
        return json.loads(self.kubectl("get", "secret", "shop-database", "--namespace=shop", "--output=json"))["data"]

    def vault(self, token: str | None = None) -> VaultClient:
        return VaultClient(f"https://{VAULT}:8200", ca_cert=str(self.inventory / "pki/ca.crt"), token=token)


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
        for path in (host.root / folder).rglob("*")
    }
    names = [
        line.split(":")[0]
        for file in ("passwd", "group")
        for line in (host.root / "etc" / file).read_text().splitlines()
    ]
    return {path for path in paths if not CHANGED_BY_THE_HOST.search(path)} | set(names)


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Site]:
    folder = tmp_path_factory.mktemp("remove")
    inventory, snaps = folder / "inventory", folder / "snaps"
    shutil.copytree(ROOT / "inventories/example", inventory)
    (inventory / "secrets").mkdir(mode=0o700)
    pack_of_the_lab(snaps)
    mirror = Path(os.environ["MOLECULE_EPHEMERAL_DIRECTORY"]) / "mirror"
    subprocess.run([sys.executable, "-m", "kubevault_lab.hosts", "mirror", mirror], check=True)
    hosts = machine.create([VAULT]) + machine.create([MICROK8S], snapd.ARGUMENTS)
    snapd.start(hosts[1])
    differences = {
        **machine.CONNECTION,
        "vault_server_mirror": f"{URL}/releases.hashicorp.com",
        "vault_server_release_key": str(STATE / "signer/key.asc"),
        "vault_server_firewall": True,
        "vault_server_firewall_clients": ["198.51.100.0/24"],
        "vault_snapshot_age_recipients": re.findall("public key: (.+)", hosts[0].run("age-keygen").stdout),
        "kubevault_vaulted_secrets": [SECRET],
        "microk8s_snap_file": str(snaps / "microk8s.snap"),
        "microk8s_base_snaps": [{"file": str(snaps / f"{name}.snap")} for name in ("bare", "snapd")],
        "microk8s_snap_dangerous": True,
    }
    (inventory / "group_vars/all/differences.yml").write_text(yaml.safe_dump(differences))
    yield Site(inventory, {host.name: host for host in hosts})
    for host in hosts:
        host.remove()


@pytest.fixture(scope="module")
def before(site: Site) -> dict[str, set[str]]:
    """What is on the hosts before anything is installed."""
    return {name: content(host) for name, host in site.hosts.items()}


def test_where_nothing_is_installed_nothing_is_removed(site: Site, before: dict[str, set[str]]) -> None:
    assert changes(site.remove(data=True)) == {}


def test_nothing_is_removed_unless_somebody_says_yes(site: Site) -> None:
    site.run("site.yml")
    run = site.remove(data=True, answer="no", fails=True)
    assert "Nothing was changed" in run.output
    assert changes(run) == {}
    assert site.vault().request("GET", "sys/health").ok


def test_the_same_vault_comes_back_and_reads_what_was_sealed_before(site: Site) -> None:
    sealed = site.sealed()
    host = f"--limit={VAULT}"
    predicted = changes(site.remove("--check", host))
    run = site.remove(host)
    assert changes(run) == predicted
    kept = "/opt/vault/data", "/var/log/vault", "/var/lib/vault-snapshot", str(site.secret("vault-unseal-keys.json"))
    assert not [path for path in kept if path not in run.output]
    assert changes(site.remove(host)) == {}
    root = site.hosts[VAULT].root
    assert not (root / "etc/vault.d").exists()
    assert (root / "opt/vault/data/vault.db").exists()
    assert "vault" not in site.hosts[VAULT].run("nft", "list", "tables").stdout
    site.run("site.yml")  # it ends with the verification of each workload's Secrets
    assert site.sealed() == sealed


def test_in_servers_that_stay_a_privileged_token_is_needed_and_secrets_and_keys_stay(site: Site) -> None:
    sealed = site.sealed()
    stay = site.inventory.parent / "stay"
    shutil.copytree(site.inventory, stay)
    groups = yaml.safe_load((stay / "hosts.yml").read_text())
    for name in ("vault", "microk8s"):
        groups["all"]["children"][name]["hosts"] = {}
    (stay / "hosts.yml").write_text(yaml.safe_dump(groups))
    variables = {"kubevault_vault_url": f"https://{VAULT}:8200", "vault_operator_snapshot_token_file": ""}
    (stay / "group_vars/all/stay.yml").write_text(yaml.safe_dump(variables))
    external = Site(stay, site.hosts)

    refused = external.remove(fails=True)
    assert "Only a privileged token may remove what is in" in refused.output
    assert changes(refused) == {}

    token = external.secret("vault-root-token")
    token.touch(0o600)
    token.write_text(privileged_token(site))
    predicted = changes(external.remove("--check"))
    assert changes(external.remove()) == predicted
    assert changes(external.remove()) == {}
    assert not token.exists()
    assert site.sealed() == sealed
    left = site.kubectl("get", "role,rolebinding,configmap", "--namespace=shop", "--output=name").split()
    assert left == ["configmap/kube-root-ca.crt"]
    client = site.vault(privileged_token(site))
    assert list(client.request("GET", "sys/auth").json()["data"]) == ["token/"]
    assert client.request("GET", "transit/keys/shop-key").ok


def test_data_is_deleted_if_somebody_says_so_and_nothing_is_left(site: Site, before: dict[str, set[str]]) -> None:
    predicted = changes(site.remove("--check", data=True))
    assert changes(site.remove(data=True)) == predicted
    assert changes(site.remove(data=True)) == {}
    assert {name: content(host) - before[name] for name, host in site.hosts.items()} == {name: set() for name in NAMES}
    assert not (site.inventory / "pki").exists()
    assert list((site.inventory / "secrets").iterdir()) == []


def test_a_host_whose_installation_failed_is_cleared(site: Site, before: dict[str, set[str]]) -> None:
    host = site.hosts[VAULT]
    site.run("playbooks/servers.yml", f"--limit={VAULT}", "--extra-vars=vault_server_binary=/bin/false", fails=True)
    site.remove(f"--limit={VAULT}", data=True)
    assert content(host) - before[VAULT] == set()
    assert host.run("systemctl", "--failed", "--plain", "--no-legend").stdout == ""


def privileged_token(site: Site) -> str:
    """Return a root token, made by the unseal key."""
    (key,) = json.loads(site.secret("vault-unseal-keys.json").read_text())["unseal_keys_b64"]
    client = site.vault()
    attempt = client.request("PUT", "sys/generate-root/attempt", {}).json()
    done = client.request("PUT", "sys/generate-root/update", {"key": key, "nonce": attempt["nonce"]}).json()
    encoded = base64.b64decode(done["encoded_token"] + "==")
    return bytes(one ^ other for one, other in zip(encoded, attempt["otp"].encode(), strict=True)).decode()
