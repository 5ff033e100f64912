"""Every fenced block of the README and of docs: run on the lab as a reader would run it, or listed with why it is not.

The lab is the one that site.yml has set up, and a reader has its variables in a shell. What a page names and the lab
lacks, as a namespace or a file, is made here; what is the reader's own, as an address, is put in by one table, `HERE`.
Blocks are found by their place, so that what runs is what the page says now.
"""

from __future__ import annotations

import ast
import contextlib
import hashlib
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, HTTPServer
from itertools import count
from pathlib import Path
from string import Template
from typing import Any

import pytest
import redis
import yaml
from ansible.module_utils.common.arg_spec import ArgumentSpecValidator
from kubernetes import client, config
from support import forked
from support.ansible import BIN, ROOT, environment, play
from support.cluster import Cluster, await_service_account
from support.docs import BLOCKS, PROMPT, Block, Place, blocks_of
from support.lab import Lab
from support.modules import Result, Task, run_modules
from support.servers import PATIENCE, RedisServer, running, wait_until

from kubevault_lab.binaries import provide
from secretmanager.admin.definitions import key_resources, policy_resources, role_resources
from secretmanager.sealed import SECRETS_ANNOTATION, STAMP_ANNOTATION, sealed_values
from secretmanager.servers.kubernetes import KubernetesClient
from secretmanager.servers.vault import VaultClient

README = "README.md"
ARCHITECTURE = "docs/architecture.md"
ARGOCD = "docs/argocd.md"
FAULTS = "docs/faults.md"
FLUX = "docs/flux.md"
HOSTS = "docs/hosts.md"
LAB = "docs/lab.md"
PODS = "docs/pods.md"
READING = "docs/secretmanager.md"
ROTATION = "docs/rotation.md"
SEALING = "docs/sealing.md"
SERVERS = "docs/servers.md"

NOT_RUN = {
    Place(README, "KUBEVAULT"): ("28a68cc0", "a diagram"),
    Place(README, "KUBEVAULT", number=1): ("8045af3c", "sets up the lab that this test is in, and runs this test"),
    Place(ARCHITECTURE, "Architecture"): ("b979251c", "a diagram"),
    Place(ARGOCD, "Argo CD"): ("dde63ec2", "a diagram"),
    Place(ARGOCD, "Argo CD", "yaml", 1): ("9d73e4ac", "a kind of Argo CD's, which the lab does not have"),
    Place(FLUX, "Flux", "yaml"): ("8fa8316d", "a kind of Flux', which the lab does not have"),
    Place(HOSTS, "Hosts", "sh"): ("95fa87f0", "needs root and makes hosts with systemd, as `make hosts` does"),
    Place(HOSTS, "Hosts", "python"): ("7bbbfc74", "needs root and makes hosts with systemd; tests/hosts calls it all"),
    Place(HOSTS, "Molecule, and hosts of yours", "sh"): ("63fb28ac", "needs hosts of the reader's"),
    Place(FAULTS, "Faults", "sh"): ("cf22169c", "needs root, and breaks hosts with systemd for minutes"),
    Place(FAULTS, "Runs that are killed", "sh"): ("b8625b66", "removes Vault from its hosts; tests/roles does"),
    Place(LAB, "A node"): ("e4030b61", "needs root and a container runtime; `make pods` has such a node"),
    Place(PODS, "kustomize"): ("ae0e96ad", "needs kustomize; what that hands to the command is handed to it here"),
    Place(PODS, "The image"): ("a0b7ad92", "needs Go and Debian's archive; tests/integration/test_image.py builds it"),
    Place(READING, "Both clients for a while", "yaml"): (
        "362c3ccd",
        "needs a Vault as the origin sets it up; tests/integration/client/test_client_published.py runs it with one",
    ),
    Place(SERVERS, "Unsealing", "sh"): ("4ebbc90f", "restarts Vault on its hosts; tests/roles changes a seal"),
    Place(SERVERS, "Backup and restore", "sh", 1): (
        "864d2d85",
        "needs empty hosts; `make hosts` restores Vault on such",
    ),
    Place(SERVERS, "Certificates", "sh"): (
        "1fd7255e",
        "replaces the authority of hosts, and the lab's cannot be replaced",
    ),
    Place(SERVERS, "Remove it", "sh"): ("05d7128b", "removes servers from their hosts; tests/roles does"),
    Place(SERVERS, "Certificates under Python 3.13 and newer", "sh"): ("84c6baec", "needs the real MicroK8s"),
}
"""Blocks that cannot run here: how the SHA-256 of each begins, so that an edited one is looked at again, and why."""

HERE = {
    # The reader's servers.
    "https://vault.example.org:8200": "$VAULT_ADDR",
    "/etc/ssl/vault-ca.crt": "$VAULT_CACERT",
    "/etc/kubevault/ca.crt": "$VAULT_CACERT",
    "rediss://redis.example.org": "$REDIS",
    "/etc/ssl/redis-ca.crt": "$REDIS_CA",
    "/run/app/redis-password": "$REDIS_PASSWORD_FILE",
    # What a pod has: a volume in memory, programs, a user and a group.
    "--to, /kubevault": "--to, $VOLUME",
    "kubevault, ready, /kubevault": "kubevault, ready, $VOLUME",
    "[/kubevault/kubevault-exec, /shop": "[$VOLUME/kubevault-exec, $SHOP",
    "http://127.0.0.1:9090": "http://127.0.0.1:$PORT",
    '"1000:1000"': '"$OWNER"',
    # What the reader puts in.
    "secret NAME -n NAMESPACE": "secret orders -n shop",
    "NAMESPACE/NAME": "shop/orders",
    "--transit-key K ": "--transit-key shop-key ",
    "KEY=FILE": "dsn=dsn",
    # What an output says of a key that has lived for months.
    "v1, 94 days old": "v$FORMER, 0 days old",
    "v2, 3 days old": "v$NEWEST, 0 days old",
}
"""What stands for the reader's own in blocks, and what it is here; the variables are those of `Reader.here`."""

RUN: list[Place] = []
"""The blocks that run in a test."""


def runs(*places: Place) -> pytest.MarkDecorator:
    """Have a test run these blocks, which it gets as `blocks`."""
    RUN.extend(places)
    return pytest.mark.parametrize("blocks", [places], indirect=True, ids=[str(places[0])])


@pytest.fixture
def blocks(request: pytest.FixtureRequest) -> list[Block]:
    return [place.find() for place in request.param]


def digest(block: Block) -> str:
    return hashlib.sha256(block.text.encode()).hexdigest()[:8]


# What a reader has.

KUBECTL = f"""#!{sys.executable}
# As much of kubectl as the pages use, by Kubernetes' own client.
import json, sys
from kubernetes import client, config
patch, secret, name, _n, namespace, _type, kind, _p, content = sys.argv[1:]
assert (patch, secret, _n, _type, kind, _p) == ("patch", "secret", "-n", "--type", "json", "-p")
config.load_kube_config()
client.CoreV1Api().patch_namespaced_secret(name, namespace, json.loads(content))
"""
KUBEVAULT_EXEC = f"""#!{sys.executable}
# What kubevault-exec does, which needs Go; tests/unit/test_kubevault_exec.py proves the program itself.
import os, pathlib, sys
lines = pathlib.Path(__file__).with_name(".env").read_text().split("\\0")[:-1]
os.execvpe(sys.argv[1], sys.argv[1:], {{**os.environ, **dict(line.split("=", 1) for line in lines)}})
"""
PROGRAM_OF_THE_SHOP = """#!/bin/sh
echo "$DB_username $DB_password $*"
"""
SHOP = """\
# Without replicas, since the lab has no node: such a rollout is done at once.
apiVersion: apps/v1
kind: Deployment
metadata: {name: shop, namespace: shop}
spec: &spec
  replicas: 0
  selector: {matchLabels: {app: shop}}
  template:
    metadata: {labels: {app: shop}}
    spec:
      containers:
      - {name: shop, image: "registry.example.org/shop:7", command: [/shop, serve]}
---
apiVersion: apps/v1
kind: StatefulSet
metadata: {name: queue, namespace: shop}
spec:
  replicas: 0
  serviceName: queue
  selector: {matchLabels: {app: queue}}
  template:
    metadata: {labels: {app: queue}}
    spec:
      containers:
      - {name: queue, image: "registry.example.org/queue:7", command: [/queue, serve]}
"""
INVENTORY = yaml.safe_load((ROOT / "inventories/lab/group_vars/all/kubevault.yml").read_text())
MATRIX: dict[str, str] = INVENTORY["kubevault_secrets"][0]["data"]["secrets.json"]
"""What the lab's inventory has sealed for the workload "demo"."""

DSN = "postgresql://shop:correct-horse@database/shop"
DB = {"username": "neo", "password": "follow-the-white-rabbit", "tls.key": "a key", "secrets.json": json.dumps(MATRIX)}


@dataclass(frozen=True)
class Reader:
    """A reader's shell after `eval "$(make -s lab-env)"`, in a folder with the files that the pages name.

    Attributes:
        folder: the folder.
        volume: an empty folder in memory, as a pod has it.
        env: the variables.
    """

    folder: Path
    volume: Path
    env: dict[str, str]

    def here(self, block: Block, **variables: object) -> str:
        """Return a block's text with what `HERE` says."""
        known = {**self.env, "VOLUME": self.volume, "SHOP": self.folder / "bin/shop", **variables}
        text = block.text
        for readers, ours in HERE.items():
            if readers in text:
                text = text.replace(readers, Template(ours).substitute(known))
        return text

    def shell(self, text: str, *, given: str = "", folder: str = ".", status: int = 0) -> str:
        """Run commands until one fails; return what they print, errors too, in its order."""
        done = subprocess.run(
            ["bash", "-euc", text],
            cwd=self.folder / folder,
            env=self.env,
            input=given,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        assert done.returncode == status, done.stdout
        return done.stdout

    @contextlib.contextmanager
    def prompt(self, *texts: str, **variables: str) -> Iterator[Prompt]:
        """Type texts at Python's prompt, which has no variables of Vault and Kubernetes but these."""
        log = self.folder / "log"
        command = [sys.executable, "-c", PROMPT]
        env = environment(PYTHONUNBUFFERED="1", **variables)
        with (
            log.open("wb") as output,
            subprocess.Popen(
                command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=self.folder, env=env, text=True
            ) as process,
        ):
            try:
                assert process.stdin
                process.stdin.write("\n".join(texts))
                process.stdin.close()
                yield Prompt(process, log)
            finally:
                process.kill()

    def python(self, *texts: str, **variables: str) -> str:
        """Type texts at Python's prompt; return what is printed until the end."""
        with self.prompt(*texts, **variables) as prompt:
            return prompt.end()


@dataclass(frozen=True)
class Prompt:
    """A prompt of Python at which somebody has typed."""

    process: subprocess.Popen[str]
    log: Path

    def has(self, text: str) -> bool:
        printed = self.log.read_text()
        assert self.process.poll() in (None, 0), printed
        return text in printed

    def wait_for(self, text: str) -> None:
        wait_until(repr(text), lambda: self.has(text))

    def end(self) -> str:
        assert self.process.wait(PATIENCE) == 0, self.log.read_text()
        return self.log.read_text()


@pytest.fixture(scope="module")
def env(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The variables of a reader, who has the programs of the virtual environment, and kubectl."""
    programs = tmp_path_factory.mktemp("programs")
    (programs / "kubectl").write_text(KUBECTL)
    (programs / "kubectl").chmod(0o755)
    author = {
        f"GIT_{who}_{what}": f"{who}@example.org" for who in ("AUTHOR", "COMMITTER") for what in ("NAME", "EMAIL")
    }
    return {**os.environ, **author, "PATH": f"{programs}:{BIN}:{os.environ['PATH']}"}


def with_files(folder: Path) -> Path:
    """Have the files that pages name in a folder; return it."""
    files = {
        "secrets.json": json.dumps(MATRIX, sort_keys=True),
        "shop.yaml": SHOP,
        "dsn": DSN,
        "payments.crt": "a certificate",
        "payments.key": "its key",
        "deploy/shop/shop.yml": SHOP,
        "bin/shop": PROGRAM_OF_THE_SHOP,
        "bin/kubevault-exec": KUBEVAULT_EXEC,
    }
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
    for path in (folder / "bin").iterdir():
        path.chmod(0o755)
    (folder / "deploy/payments").mkdir()
    return folder


@pytest.fixture
def reader(env: dict[str, str], tmp_path: Path) -> Iterator[Reader]:
    with tempfile.TemporaryDirectory(dir="/dev/shm") as volume:
        yield Reader(with_files(tmp_path), Path(volume), env)


def operator() -> VaultClient:
    """Return a client of the lab's Vault with the operator's token."""
    token = Path(os.environ["VAULT_TOKEN_FILE"]).read_text().strip()
    return VaultClient(os.environ["VAULT_ADDR"], ca_cert=os.environ["VAULT_CACERT"], token=token)


def newest(key: str) -> int:
    return int(operator().read_key(key)["latest_version"])


def kubernetes() -> KubernetesClient:
    return KubernetesClient.from_kubeconfig(os.environ["KUBECONFIG"])


def cluster_of(namespace: str) -> Cluster:
    kubeconfig = os.environ["KUBECONFIG"]
    connection = config.new_client_from_config(kubeconfig)
    return Cluster(kubeconfig, namespace, client.CoreV1Api(connection), client.RbacAuthorizationV1Api(connection))


def configure(module: str, **options: Any) -> Result:
    """Run a module of ours with the lab's variables."""
    (result,) = run_modules([{module: options}], ROOT, dict(os.environ))
    return result


def seal(place: str, key: str, data: Mapping[str, Any]) -> None:
    namespace, name = place.split("/")
    configure("kubevault_secret", namespace=namespace, name=name, transit_key=key, data=dict(data))


def versions(place: str) -> set[int]:
    """Return with which versions of its key a Secret's values are sealed."""
    return {value.version for value in sealed_values(kubernetes().get_secret(*place.split("/"))).values()}


def remove(*places: str) -> None:
    """Delete Secrets, those that are there."""
    for place in places:
        namespace, name = place.split("/")
        cluster_of(namespace).api.delete_collection_namespaced_secret(namespace, field_selector=f"metadata.name={name}")


@dataclass(frozen=True)
class Shop:
    """The namespace of the workload "shop", which reads with shop-key as its own service account.

    Attributes:
        cluster: Kubernetes with this namespace.
        kubeconfig: kubeconfig file of the service account.
    """

    cluster: Cluster
    kubeconfig: str

    def env(self, container: Mapping[str, Any]) -> dict[str, str]:
        """Return the variables of a container."""
        return environment(
            K8S_AUTH_KUBECONFIG=self.kubeconfig, **{each["name"]: each["value"] for each in container["env"]}
        )

    def apply(self, manifest: Mapping[str, Any], **options: Any) -> dict[str, Any]:
        """Apply a manifest by the official client, with its fields checked; return what Kubernetes has then."""
        kind, name = manifest["kind"], manifest["metadata"]["name"]
        groups = {"Pod": client.CoreV1Api, "Job": client.BatchV1Api}
        api = groups.get(kind, client.AppsV1Api)(self.cluster.api.api_client)
        patch = getattr(api, f"patch_namespaced_{'stateful_set' if kind == 'StatefulSet' else kind.lower()}")
        given = {"field_manager": "reader", "force": True, "field_validation": "Strict", **options}
        namespace = self.cluster.namespace
        found = patch(name, namespace, dict(manifest), _content_type="application/apply-patch+yaml", **given)
        made: dict[str, Any] = api.api_client.sanitize_for_serialization(found)
        return made

    def check(self, manifest: Mapping[str, Any]) -> None:
        """Have Kubernetes validate a manifest, and write nothing."""
        self.apply(manifest, dry_run="All")

    def deployment(self) -> dict[str, Any]:
        return kubernetes().get("deployments", "shop", "shop")


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """What the pages on pods suppose: key, policies and role in Vault, an account and its rights, a sealed Secret."""
    cluster = cluster_of("shop")
    with contextlib.suppress(client.ApiException):
        # Of a run that was killed, or that has just ended.
        cluster.api.delete_namespace("shop")
    find = cluster.api.list_namespace
    wait_until("the end of a former shop", lambda: not find(field_selector="metadata.name=shop").items)
    cluster.api.create_namespace({"metadata": {"name": "shop"}})
    try:
        await_service_account(cluster.api, "shop")
        reads = {"role": "shop", "service_account": "shop", "namespace": "shop", "reads": ["shop-key"]}
        keys = key_resources([{"name": "shop-key", "derived": True}])
        resources = [*keys, *policy_resources(["shop-key"]), *role_resources([reads])]
        with Lab(Path(os.environ["KUBEVAULT_LAB"])).privileged() as vault:
            configure("vault_resource", resources=resources, vault_token=vault.token)
        token = cluster.account(
            "shop",
            [
                {"apiGroups": [""], "resources": ["secrets"], "resourceNames": ["db"], "verbs": ["get", "watch"]},
                {
                    "apiGroups": [""],
                    "resources": ["serviceaccounts/token"],
                    "resourceNames": ["shop"],
                    "verbs": ["create"],
                },
            ],
        )
        seal("shop/db", "shop-key", DB)
        yield Shop(cluster, cluster.kubeconfig_of(token, tmp_path_factory.mktemp("shop")))
    finally:
        cluster.api.delete_namespace("shop")


# What is not run.


def test_every_block_runs_or_is_listed() -> None:
    run, listed = ([place.find() for place in places] for places in (RUN, NOT_RUN))
    assert [str(block) for block in BLOCKS if block not in run and block not in listed] == []
    assert [str(block) for block in run if block in listed] == []


@pytest.mark.parametrize("place", NOT_RUN, ids=str)
def test_a_block_that_does_not_run_is_the_one_that_was_listed(place: Place) -> None:
    known, reason = NOT_RUN[place]
    assert digest(place.find()) == known, f"it was edited; is this still true: {reason}? Then enter the new digest"


def test_what_does_not_run_names_what_there_is() -> None:
    """Targets of make, and variables of make, of roles and of tests."""
    sources = [
        ROOT / "Makefile",
        *(path for folder in ("playbooks", "roles", "tests") for path in (ROOT / folder).rglob("*.*")),
    ]
    text = "\n".join(path.read_text(errors="replace") for path in sources if path.suffix not in (".pyc", ".md"))
    for block in (place.find() for place in NOT_RUN):
        for line in block.text.replace("\\\n", "").splitlines():
            if not re.search(r"\b(make|ansible-playbook) ", line):
                continue
            words = shlex.split(line, comments=True)
            names = [word.partition("=")[0] for word in words if re.match(r"\w+=", word)]
            names += re.findall(r"\{(\w+):", line)
            assert [name for name in names if not re.search(rf"\b{name}\b", text)] == [], block
            if "make" in words:
                targets = [word for word in words[words.index("make") + 1 :] if "=" not in word]
                assert targets, block
                assert [target for target in targets if not re.search(rf"^{target}:", text, re.M)] == [], block


def test_every_stand_in_is_used() -> None:
    texts = [place.find().text for place in RUN]
    assert [readers for readers in HERE if not any(readers in text for text in texts)] == []


def test_blocks_are_found_wherever_they_are() -> None:
    page = "# One\n```\n# no heading\n```\n## Two\n- a list:\n\n  ```yaml\n  a:\n    - b\n  ```\n~~~sh\n```\n~~~\n"
    found = [(block.heading, block.language, block.line, block.text) for block in blocks_of("page", page)]
    assert found == [
        ("One", "", 3, "# no heading\n"),
        ("Two", "yaml", 9, "a:\n  - b\n"),
        ("Two", "sh", 13, "```\n"),
    ]
    with pytest.raises(AssertionError, match="page:2: the block has no end"):
        list(blocks_of("page", "```\ntext\n"))
    with pytest.raises(AssertionError, match="is gone"):
        Place(README, "Use it", "yaml", 1).find()


# Tasks, in one play.

TASKS = [
    Place(PODS, "Ansible", "yaml"),
    Place(README, "Use it", "yaml"),
    Place(SEALING, "Sealing", "yaml"),
    Place(SEALING, "What Ansible itself would write down", "yaml"),
    Place(SEALING, "Many Secrets", "yaml"),
    Place(ARGOCD, "Argo CD", "yaml"),
    Place(PODS, "Restart", "yaml"),
    Place(PODS, "GitOps", "yaml"),
    Place(SEALING, "Reading back", "yaml"),
]
"""Blocks of one task each, in an order in which each finds what it needs."""

VARIABLES = [
    Place(SERVERS, "Unsealing", "yaml"),
    Place(SERVERS, "OpenBao", "yaml"),
    Place(SERVERS, "Telemetry", "yaml"),
]
"""Blocks of an inventory's variables, with which the role vault-server writes a configuration."""

RUN.extend([*TASKS, *VARIABLES])


@dataclass
class Played:
    """What a play of all these tasks did, and the same play once more.

    Attributes:
        folder: the playbook's folder.
        runs: the result of each task, by its block, of each run.
    """

    folder: Path
    runs: list[dict[Place, Result]] = field(default_factory=list)

    def read(self, name: str) -> str:
        return (self.folder / name).read_text()

    def configuration(self, place: Place) -> str:
        return self.read(f"{VARIABLES.index(place)}.hcl")


@pytest.fixture(scope="module")
def played(shop: Shop, env: dict[str, str], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Played]:
    folder = with_files(tmp_path_factory.mktemp("played"))
    reader = Reader(folder, folder, env)
    tasks: dict[Place, Task] = {}
    for place in TASKS:
        ((task,),) = [yaml.safe_load(reader.here(place.find()))]
        tasks[place] = {**task, "ignore_errors": True}
    # Who seals into a file needs no access to Kubernetes.
    nowhere = {"KUBECONFIG": "/nonexistent", "K8S_AUTH_KUBECONFIG": "/nonexistent"}
    tasks[Place(ARGOCD, "Argo CD", "yaml")] |= {"environment": nowhere}
    role = ROOT / "roles/vault-server"
    for index, place in enumerate(VARIABLES):
        template = {"src": str(role / "templates/vault.hcl.j2"), "dest": f"{folder}/{index}.hcl"}
        variables = yaml.safe_load(reader.here(place.find()))
        tasks[place] = {"ansible.builtin.template": template, "vars": variables, "ignore_errors": True}
    seen = {"ansible.builtin.assert": {"that": ["matrix == sealed"], "quiet": True}}
    given = {
        **yaml.safe_load((role / "defaults/main.yml").read_text()),
        **yaml.safe_load((role / "vars/main.yml").read_text()),
        "vault_server_url": os.environ["VAULT_ADDR"],
        "sealed": MATRIX,
        "matrix": MATRIX,
        "passwords": {"neo": "follow-the-white-rabbit", "trinity": "dodge-this"},
        "dsn": DSN,
        "shop_dsn": DSN,
        "shop_token": "a-token-of-the-shop",
    }
    done = Played(folder)
    try:
        for _ in range(2):
            results = play([*tasks.values(), seen], folder, env, variables=given).results
            done.runs.append(dict(zip(tasks, results, strict=False)))
        yield done
    finally:
        remove("default/passwords", "payments/database", "payments/service-tls")


@pytest.mark.parametrize("place", [*TASKS, *VARIABLES], ids=str)
def test_a_task_ends_well_and_once_more_changes_nothing(played: Played, place: Place) -> None:
    first, second = (results[place] for results in played.runs)
    assert not first.get("failed"), first
    assert (second.get("failed", False), second["changed"]) == (False, False), second


def test_what_the_lab_has_sealed_already_is_unchanged(played: Played) -> None:
    assert [played.runs[0][place]["changed"] for place in TASKS[1:3]] == [False, False]


def test_the_tasks_sealed_what_they_say(played: Played, shop: Shop) -> None:
    for place, keys in (
        ("default/passwords", {"neo", "trinity"}),
        ("payments/database", {"dsn"}),
        ("payments/service-tls", {"tls.crt", "tls.key"}),
        ("shop/database", {"dsn"}),
        ("shop/token", {"token"}),
    ):
        found = sealed_values(kubernetes().get_secret(*place.split("/")))
        assert {key: value.ciphertext[:7] for key, value in found.items()} == dict.fromkeys(keys, "vault:v"), place


def test_the_files_for_git_have_the_secret_and_the_stamp(played: Played) -> None:
    for name, place in (("payments/database", ("payments", "database")), ("shop/database", ("shop", "database"))):
        (secret,) = yaml.safe_load_all(played.read(f"deploy/{name}.yml"))
        assert (secret["metadata"]["namespace"], secret["metadata"]["name"]) == place
        assert sealed_values(secret).keys() == {"dsn"}
    deployment, queue = yaml.safe_load_all(played.read("deploy/shop/shop.yml"))
    assert re.fullmatch(
        "database=[0-9a-f]+", deployment["spec"]["template"]["metadata"]["annotations"][STAMP_ANNOTATION]
    )
    assert "annotations" not in queue["spec"]["template"]["metadata"]


def test_the_filter_s_workloads_have_a_sidecar_and_were_restarted(played: Played, shop: Shop) -> None:
    for resource, name in (("deployments", "shop"), ("statefulsets", "queue")):
        template = kubernetes().get(resource, "shop", name)["spec"]["template"]
        (container,) = template["spec"]["initContainers"]
        assert (container["name"], container["restartPolicy"]) == ("kubevault", "Always")
        stamps = template["metadata"]["annotations"][STAMP_ANNOTATION]
        assert re.fullmatch("database=[0-9a-f]+,token=[0-9a-f]+", stamps)


def test_variables_are_those_of_the_role_and_reach_the_configuration(played: Played) -> None:
    for place in VARIABLES:
        variables = yaml.safe_load(place.find().text)
        for role in ("vault-server", "vault-operator"):
            specs = yaml.safe_load((ROOT / f"roles/{role}/meta/argument_specs.yml").read_text())
            options = {
                name: {**spec, "required": False} for name, spec in specs["argument_specs"]["main"]["options"].items()
            }
            of_role = {name: variables.pop(name) for name in list(variables) if name.startswith(role.replace("-", "_"))}
            assert ArgumentSpecValidator(options).validate(of_role).error_messages == []
            for name in ("vault_server_seal_options", "vault_server_telemetry"):
                for option, value in of_role.get(name, {}).items():
                    assert f"  {option} = {json.dumps(value)}\n" in played.configuration(place)
        assert variables == {}
    gcp, openbao, telemetry = map(played.configuration, VARIABLES)
    assert 'seal "gcpckms" {' in gcp
    assert 'seal "static" {' in openbao
    assert "seal" not in telemetry


# Sealing, by the command.


@runs(Place(SEALING, "Sealing"))
def test_the_command_seals_as_the_task_does(reader: Reader, blocks: list[Block]) -> None:
    before = kubernetes().get_secret("default", "matrix-secrets")["metadata"]["resourceVersion"]
    assert reader.shell(reader.here(blocks[0])) == "default/matrix-secrets: unchanged (cluster-wide)\n"
    assert kubernetes().get_secret("default", "matrix-secrets")["metadata"]["resourceVersion"] == before


@runs(Place(SEALING, "Reading back", "bash"))
def test_the_commands_read_as_the_workload(reader: Reader, blocks: list[Block]) -> None:
    # The value has no line end of its own.
    secret, username, files = reader.shell(reader.here(blocks[0])).rpartition("neo\n")
    assert json.loads(secret) == MATRIX
    assert (username, files) == ("neo\n", "secrets.json\n")


def test_the_operator_s_token_is_told_whom_to_log_in_as(reader: Reader) -> None:
    refusal = reader.shell("kubevault read default/matrix-secrets/secrets.json", status=1)
    assert "log in as a workload that reads with this key, by auth method kubernetes" in refusal


@runs(Place(FLUX, "Flux"), Place(FLUX, "One writer for each Secret"))
def test_what_is_sealed_for_flux_keeps_its_bytes_and_gets_its_annotation(reader: Reader, blocks: list[Block]) -> None:
    file, written = reader.folder / "deploy/payments/database.yml", []
    for block in (blocks[0], *blocks):
        reader.shell(reader.here(block), given=DSN)
        written.append(file.read_text())
    first, second, annotated = map(yaml.safe_load, written)
    assert written[0] == written[1]
    assert annotated["metadata"].pop("annotations") == {"kustomize.toolkit.fluxcd.io/ssa": "IfNotPresent"}
    assert annotated == first == second


@runs(Place(ARGOCD, "One writer for each Secret", "yaml"))
def test_argo_cd_ignores_the_field_manager_that_seals(blocks: list[Block]) -> None:
    (ignored,) = yaml.safe_load(blocks[0].text)["spec"]["ignoreDifferences"]
    fields = kubernetes().get_secret("default", "matrix-secrets")["metadata"]["managedFields"]
    assert ignored["managedFieldsManagers"] == [entry["manager"] for entry in fields if "f:data" in entry["fieldsV1"]]


# Reading, by Python.

FIRST = Place(READING, "Reading: SecretManager", "python")
"""The first block of the page, which the others go on from."""


def demo() -> dict[str, str]:
    """Return the variables of the workload "demo"."""
    return {"KUBECONFIG": os.environ["KUBEVAULT_WORKLOAD_KUBECONFIG"]}


@pytest.fixture
def opened(reader: Reader) -> str:
    """What a reader has typed before: the page's first block, and the options by their name."""
    made = reader.here(FIRST.find()).partition("sm.read_secrets")[0]
    return f"{made}\nconfig = {re.search(r'SecretManager[(]([{].*?[}])[)]', made, re.DOTALL)[1]}\nreconfigure = print\n"


@runs(Place(README, "Use it", "python"))
def test_the_readme_s_service_reads(reader: Reader, blocks: list[Block]) -> None:
    assert ast.literal_eval(reader.python(reader.here(blocks[0]), **demo())) == MATRIX


@runs(FIRST)
def test_a_service_reads(reader: Reader, blocks: list[Block]) -> None:
    assert ast.literal_eval(reader.python(reader.here(blocks[0]), **demo())) == MATRIX


@runs(Place(READING, "From files", "python"), *(Place(READING, "From files", "json", number) for number in range(2)))
def test_a_service_reads_by_two_files(reader: Reader, blocks: list[Block]) -> None:
    for name, block in zip(("secretcfg.json", "secretdef.json"), blocks[1:], strict=True):
        (reader.folder / name).write_text(reader.here(block))
    typed = "from secretmanager import SecretManager", reader.here(blocks[0]), "secrets"
    assert ast.literal_eval(reader.python(*typed, VAULT_CACERT=os.environ["VAULT_CACERT"], **demo())) == MATRIX


@pytest.fixture
def changes() -> Iterator[Iterator[str]]:
    """Seals another password at each step, and yields it; in the end the Secret is as it was."""

    def change() -> Iterator[str]:
        for number in count():
            password = f"password-{number}"
            seal("default/matrix-secrets", "aes256-key", {"secrets.json": {**MATRIX, "password": password}})
            yield password

    yield change()
    seal("default/matrix-secrets", "aes256-key", {"secrets.json": MATRIX})


@runs(Place(READING, "Live updates", "python"))
def test_a_service_hears_of_changes(reader: Reader, blocks: list[Block], opened: str, changes: Iterator[str]) -> None:
    text = reader.here(blocks[0])
    loop, thread = (str(ast.get_source_segment(text, statement)) for statement in ast.parse(text).body)
    with reader.prompt(opened, loop, **demo()) as prompt:
        prompt.wait_for(MATRIX["password"])
        prompt.wait_for(next(changes))
    ended = "import threading\nheard = threading.Event()\nreconfigure = lambda secrets: (print(secrets), heard.set())\n"
    with reader.prompt(opened, ended, thread, "heard.wait()", "watch.close()", "watch.closed", **demo()) as prompt:
        # It begins some time after the prompt, and then hears of the next change.
        wait_until("a change", lambda: next(changes) and prompt.has("password-"))
        assert prompt.end().endswith("True\nTrue\n")


@runs(Place(READING, "asyncio", "python"))
def test_a_service_hears_of_changes_by_asyncio(
    reader: Reader, blocks: list[Block], opened: str, changes: Iterator[str]
) -> None:
    with reader.prompt(opened, reader.here(blocks[0]), **demo()) as prompt:
        wait_until("a change", lambda: next(changes) and prompt.has("'password': 'password-"))


@runs(Place(READING, "Live updates", "python", 1))
def test_a_tool_publishes_a_notice(reader: Reader, blocks: list[Block]) -> None:
    server = RedisServer(reader.folder)
    with (
        running(server, server.start),
        redis.from_url(server.url, password=server.password, ssl_ca_certs=server.ca) as connection,
    ):
        channel = connection.pubsub(ignore_subscribe_messages=True)
        channel.subscribe("kubevault:default/matrix-secrets")
        channel.get_message(timeout=PATIENCE)
        text = reader.here(blocks[0], REDIS=server.url, REDIS_CA=server.ca, REDIS_PASSWORD_FILE=server.password_file)
        reader.python(text)
        notice = json.loads(channel.get_message(timeout=PATIENCE)["data"])
    assert (notice["resource_version"], notice["key_versions"]) == ("4711", {"aes256-key": 2})


@runs(Place(READING, "Settings classes", "python"))
def test_settings_come_from_a_secret_and_do_not_show_it(reader: Reader, blocks: list[Block], opened: str) -> None:
    printed = reader.python(opened, reader.here(blocks[0]), "Settings()", **demo())
    assert printed == "Settings(username='neo', password=SecretStr('**********'))\n"


@runs(Place(READING, "Rotating", "python"))
def test_a_service_rotates_and_rewraps(reader: Reader, blocks: list[Block]) -> None:
    admin = kubernetes()
    kubeconfig = cluster_of("kubevault").kubeconfig_of(admin.create_token("kubevault", "rotator", None), reader.folder)
    # As kubelet mounts it into a pod.
    token = reader.folder / "vault-token"
    token.write_text(admin.create_token("kubevault", "rotator", "vault"))
    options = {"SOURCE": "KUBEVAULT", "service_account": "rotator", "namespace": "kubevault", "role": "rotator"}
    options |= {"token_file": str(token)}
    servers = {name: os.environ[name] for name in ("VAULT_ADDR", "VAULT_CACERT")}
    made = f"from secretmanager import SecretManager\nsm = SecretManager({options})\n"
    text = reader.here(blocks[0])
    version = newest("aes256-key") + 1
    printed = reader.python(made, text, text.splitlines()[-1], KUBECONFIG=kubeconfig, **servers)
    assert printed == f"{version}\n{{'secrets.json': {version}}}\n{{}}\n"


@runs(Place(READING, "In a pod", "yaml"))
def test_a_pod_may_mount_a_token_for_vault(blocks: list[Block], shop: Shop) -> None:
    program = {"containers": [{"name": "service", "image": "registry.example.org/service:1"}]}
    shop.check(
        {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {"name": "service"},
            "spec": merged(program, yaml.safe_load(blocks[0].text)),
        }
    )


# Pods.


def merged(base: Any, more: Any) -> Any:
    """Return a manifest with the parts that a block shows of it, the items of lists by their position."""
    if isinstance(base, dict) and isinstance(more, dict):
        return {**base, **{name: merged(base[name], value) if name in base else value for name, value in more.items()}}
    if isinstance(base, list) and isinstance(more, list) and isinstance(more[0], dict):
        return [merged(*pair) for pair in zip(base, more, strict=True)]
    return more


INIT_CONTAINER = Place(PODS, "Init container", "yaml")


def pod_of(text: str, more: str = "{}") -> dict[str, Any]:
    """Return the pod of the block `INIT_CONTAINER`, with what a later block shows of it."""
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "shop"}, **yaml.safe_load(text)}
    return {**pod, "spec": merged(pod["spec"], yaml.safe_load(more))}


def container_of(pod: Mapping[str, Any]) -> dict[str, Any]:
    (container,) = pod["spec"]["initContainers"]
    return dict(container)


def run_container(shop: Shop, container: Mapping[str, Any], *arguments: str) -> None:
    """Run a container to its end, as a process."""
    # In a pod, the service account is that of the token in it.
    command = (*container["args"], "--service-account", "shop/shop", *arguments)
    done = forked.kubevault(*command, env=shop.env(container), folder=None)
    assert done.returncode == 0, done.stderr


def values_in(volume: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in volume.iterdir() if not path.name.startswith("..")}


@runs(INIT_CONTAINER)
def test_an_init_container_writes_a_file_for_each_value(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    shop.check(pod_of(blocks[0].text))
    run_container(shop, container_of(pod_of(reader.here(blocks[0]))))
    assert values_in(reader.volume) == DB


@runs(Place(PODS, "Other files", "yaml"))
def test_a_configuration_names_the_files(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    configuration = reader.folder / "files.yaml"
    configuration.write_text(reader.here(blocks[0], OWNER=f"{os.getuid()}:{os.getgid()}"))
    container = container_of(pod_of(reader.here(INIT_CONTAINER.find())))
    run_container(shop, container, "--config", str(configuration))
    file = reader.volume / "shop/database.ini"
    assert file.read_text() == f"[database]\nuser = {DB['username']}\npassword = {DB['password']}\n"
    assert file.stat().st_mode & 0o777 == 0o400
    assert (reader.volume / "tls.key").read_text() == DB["tls.key"]


@pytest.fixture
def reloads() -> Iterator[tuple[int, list[str]]]:
    """The port of a program that takes requests to reload, and their paths."""
    paths = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            paths.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, paths
        server.shutdown()


@runs(Place(PODS, "Sidecar", "yaml"))
def test_a_sidecar_writes_again_and_has_the_program_reload(
    reader: Reader, blocks: list[Block], shop: Shop, reloads: tuple[int, list[str]]
) -> None:
    shop.check(pod_of(INIT_CONTAINER.find().text, blocks[0].text))
    port, paths = reloads
    container = container_of(pod_of(reader.here(INIT_CONTAINER.find()), reader.here(blocks[0], PORT=port)))
    probe = container["startupProbe"]["exec"]["command"]
    assert subprocess.run(probe, env=shop.env(container), check=False).returncode == 1
    command = ["kubevault", *container["args"], "--service-account", "shop/shop"]
    with subprocess.Popen(command, env=shop.env(container)) as process:
        try:
            wait_until("the files", lambda: (reader.volume / "password").exists() or process.poll() is not None)
            assert subprocess.run(probe, env=shop.env(container), check=False).returncode == 0
            seal("shop/db", "shop-key", {**DB, "password": "another-one"})
            wait_until("a request", lambda: bool(paths))
            assert values_in(reader.volume) == {**DB, "password": "another-one"}
            process.send_signal(signal.SIGTERM)
            assert process.wait(PATIENCE) == 0
        finally:
            process.kill()
            seal("shop/db", "shop-key", DB)
    assert paths == ["/-/reload"]


@runs(Place(PODS, "Environment of a program", "yaml"))
def test_a_program_gets_variables(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    shop.check(pod_of(INIT_CONTAINER.find().text, blocks[0].text))
    pod = pod_of(reader.here(INIT_CONTAINER.find()), reader.here(blocks[0]))
    run_container(shop, container_of(pod), "--exec-program", str(reader.folder / "bin/kubevault-exec"))
    (program,) = pod["spec"]["containers"]
    done = subprocess.run(program["command"], env={}, capture_output=True, text=True, check=True)
    assert done.stdout == f"{MATRIX['username']} {MATRIX['password']} --port 8080\n"


@runs(Place(PODS, "Inject"))
def test_the_command_injects_once_and_takes_it_out_again(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    path = reader.folder / "shop.yaml"
    reader.shell(reader.here(blocks[0]))
    injected = path.read_text()
    for manifest in yaml.safe_load_all(injected):
        assert manifest["spec"]["template"]["spec"]["containers"][0]["command"][0] == "/kubevault/kubevault-exec"
        shop.check(manifest)
    reader.shell(reader.here(blocks[0]))
    assert path.read_text() == injected
    reader.shell("kubevault inject shop.yaml --in-place --remove")
    assert path.read_text() == SHOP


@runs(*(Place(PODS, "kustomize", "yaml", number) for number in range(2)))
def test_kustomize_s_function_injects(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    kustomization, function = (yaml.safe_load(reader.here(block)) for block in blocks)
    assert [f"# {name}" for name in ("kustomization.yaml", *kustomization["transformers"])] == [
        each.first for each in blocks
    ]
    items = [
        item for name in kustomization["resources"] for item in yaml.safe_load_all((reader.folder / name).read_text())
    ]
    call = yaml.safe_load(function["metadata"]["annotations"]["config.kubernetes.io/function"])
    resources = {
        "apiVersion": "config.kubernetes.io/v1",
        "kind": "ResourceList",
        "items": items,
        "functionConfig": function,
    }
    printed = reader.shell(call["exec"]["path"], given=yaml.safe_dump(resources))
    deployment, queue = yaml.safe_load(printed)["items"]
    shop.check(deployment)
    assert container_of(deployment["spec"]["template"])["image"] == function["spec"]["image"]
    assert queue == items[1]


@runs(Place(PODS, "kustomize", "yaml", 2))
def test_kustomize_renames_what_an_annotation_names(reader: Reader, blocks: list[Block]) -> None:
    (folder := reader.folder / "renamed").mkdir()
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "shop-database"}}
    deployment = {**yaml.safe_load(SHOP.partition("\n---\n")[0]), "kind": "Deployment"}
    deployment["metadata"] |= {"annotations": {SECRETS_ANNOTATION: "shop-database"}}
    deployment["metadata"].pop("namespace", None)
    kustomization = {"namePrefix": "prod-", "resources": ["a.yaml", "b.yaml"], "configurations": ["names.yaml"]}
    (folder / "names.yaml").write_text(reader.here(blocks[0]))
    for name, content in {"a": secret, "b": deployment, "kustomization": kustomization}.items():
        (folder / f"{name}.yaml").write_text(yaml.safe_dump(content))
    kubectl = provide(["kubectl"])["kubectl"]
    built = subprocess.run([kubectl, "kustomize", folder], capture_output=True, text=True, check=True).stdout
    names = {each["kind"]: each["metadata"] for each in yaml.safe_load_all(built)}
    assert names["Secret"]["name"] == "prod-shop-database"
    assert names["Deployment"]["annotations"] == {SECRETS_ANNOTATION: "prod-shop-database"}


@runs(Place(PODS, "Restart"))
def test_the_command_restarts_what_it_names(reader: Reader, blocks: list[Block], shop: Shop, played: Played) -> None:
    before = shop.deployment()["metadata"]["generation"]
    (reader.folder / "dsn").write_text(f"{DSN}-after")
    for _ in range(2):
        reader.shell(reader.here(blocks[0]))
        assert shop.deployment()["metadata"]["generation"] == before + 1


@runs(Place(PODS, "Which workloads", "yaml"))
def test_an_annotation_names_what_restarts_a_workload(
    reader: Reader, blocks: list[Block], shop: Shop, played: Played
) -> None:
    annotated = shop.apply(merged(next(yaml.safe_load_all(SHOP)), yaml.safe_load(blocks[0].text)))
    assert annotated["metadata"]["annotations"][SECRETS_ANNOTATION] == "database,token"
    reader.shell(
        "kubevault seal shop/token --transit-key shop-key --from-file token=- --restart annotated", given="another"
    )
    assert shop.deployment()["metadata"]["generation"] == annotated["metadata"]["generation"] + 1


# Rotation.


@runs(Place(ROTATION, "What is behind"))
def test_what_is_behind_is_told(reader: Reader, blocks: list[Block]) -> None:
    former = newest("payments-key")
    remove("payments/database")
    try:
        seal("payments/database", "payments-key", {"dsn": DSN})
        operator().rotate_key("payments-key")
        seal("payments/database", "payments-key", {"replica-dsn": DSN})
        lines = reader.here(blocks[0], FORMER=former, NEWEST=former + 1).splitlines()
        # A shell that goes on after an error, as one at which a reader types.
        script = "\n".join(line.removeprefix("$ ") for line in lines if line.startswith("$ "))
        printed = reader.shell(f"set +e\n{script}")
    finally:
        remove("payments/database")
        reader.shell("kubevault rewrap --transit-key payments-key")
    *report, warning, status = (line for line in lines if not line.startswith("$ "))
    # The lab has other Secrets, of which it says more.
    assert "\n".join(report) in printed
    assert warning in printed.splitlines()
    assert printed.splitlines()[-1] == status


@runs(Place(ROTATION, "GitOps"))
def test_files_in_git_are_rewrapped(reader: Reader, blocks: list[Block]) -> None:
    reader.shell(
        """
        git init --quiet --bare remote
        git clone --quiet remote clone 2>/dev/null
        cd clone
        mkdir apps
        printf %s "$1" | kubevault seal shop/app --transit-key aes256-key --from-file dsn=- --manifest apps/app.yml
        git add apps
        git commit --quiet --message=Sealed
        git push --quiet --set-upstream origin HEAD
        """.replace("$1", DSN)
    )
    operator().rotate_key("aes256-key")
    reader.shell(reader.here(blocks[0]), folder="clone")
    shown = reader.shell("git log -1 --format=%s --numstat", folder="remote").split()
    assert shown == ["Rewrap", "aes256-key", "2", "2", "apps/app.yml"]
    assert f"vault:v{newest('aes256-key')}:" in str(
        sealed_values(yaml.safe_load((reader.folder / "clone/apps/app.yml").read_text()))
    )


@runs(Place(ROTATION, "Several processes", "yaml"))
def test_an_indexed_job_rewraps_in_shards(blocks: list[Block], shop: Shop) -> None:
    job = yaml.safe_load(blocks[0].text)
    shop.check(job)
    operator().rotate_key("aes256-key")
    (container,) = job["spec"]["template"]["spec"]["containers"]
    shards = {each["name"]: each["value"] for each in container["env"]}
    program, *arguments = container["command"]
    assert program == "kubevault"

    def seen(**variables: str) -> int:
        """Run the container; return how many Secrets it has rewrapped or found as they should be."""
        done = forked.kubevault(*arguments, env={**os.environ, **variables}, folder=None)
        numbers = re.search(rb"(\d+) rewrapped, (\d+) current, 0 left behind", done.stdout)
        assert numbers, done
        return sum(map(int, numbers.groups()))

    parts = [seen(**shards, JOB_COMPLETION_INDEX=str(index)) for index in range(job["spec"]["completions"])]
    assert sum(parts) == seen()
    assert versions("default/matrix-secrets") == {newest("aes256-key")}


@runs(Place(ROTATION, "Rotation"))
def test_older_versions_are_retired(reader: Reader, blocks: list[Block]) -> None:
    operator().rotate_key("aes256-key")
    # Apart, so that nobody who reads meanwhile has a ciphertext that is retired.
    reader.shell("kubevault rewrap --transit-key aes256-key")
    reader.shell(reader.here(blocks[0]))
    key = operator().read_key("aes256-key")
    assert key["min_decryption_version"] == key["latest_version"]
    assert versions("default/matrix-secrets") == {key["latest_version"]}


@runs(Place(ROTATION, "Recovery"))
def test_all_values_are_sealed_anew_without_the_manifest(reader: Reader, blocks: list[Block], shop: Shop) -> None:
    seal("shop/orders", "shop-key", {"dsn": DSN})
    before = sealed_values(kubernetes().get_secret("shop", "orders"))["dsn"]
    reader.shell(reader.here(blocks[0]))
    after = sealed_values(kubernetes().get_secret("shop", "orders"))["dsn"]
    assert after.ciphertext != before.ciphertext
    assert (after.transit_key, after.scope) == (before.transit_key, before.scope)


# Servers.


@runs(Place(SERVERS, "Backup and restore", "sh"))
def test_the_key_of_backups_is_made(reader: Reader, blocks: list[Block]) -> None:
    (recipient,) = re.findall("age1[0-9a-z]+", reader.shell(reader.here(blocks[0])))
    decrypted = f"printf backup | age --encrypt --recipient {recipient} | age --decrypt --identity backup.key"
    assert reader.shell(decrypted) == "backup"
