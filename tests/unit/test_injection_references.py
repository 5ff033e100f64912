"""What kubevault inject does where Kubernetes itself hands over a sealed Secret: refuse it, rewrite it, put it back."""

from __future__ import annotations

import base64
from collections.abc import Mapping
from typing import Any

import pytest
import yaml

from secretmanager.errors import ConfigError
from secretmanager.injection.objects import inject
from secretmanager.injection.options import from_options
from secretmanager.injection.pods import REPLACED_ANNOTATION
from secretmanager.injection.text import with_injection, without_injection
from secretmanager.sealed import MANIFEST_KEY, Manifest, Scope

OPTIONS = {
    "secrets": ["database"],
    "vault_url": "https://vault.example.org:8200",
    "role": "shop",
    "image": "registry.example.org/kubevault@sha256:0000000000000000000000000000000000000000000000000000000000000000",
}

FROM_KEY = {"name": "DSN", "valueFrom": {"secretKeyRef": {"name": "database", "key": "dsn"}}}
SAME_NAME = {"name": "dsn", "valueFrom": {"secretKeyRef": {"name": "database", "key": "dsn"}}}
VOLUME = {"name": "db", "secret": {"secretName": "database"}}
MOUNT = {"name": "db", "mountPath": "/etc/db", "readOnly": True}
PROJECTED = {"name": "all", "projected": {"sources": [{"secret": {"name": "database"}}]}}
ITEMS = {"name": "db", "secret": {"secretName": "database", "items": [{"key": "dsn", "path": "url"}]}}


def pod(*containers: Mapping[str, Any], **fields: Any) -> dict[str, Any]:
    shop = {"name": "shop", "image": "shop:1", "command": ["shop"]}
    items = [{**shop, **container} for container in containers or ({},)]
    metadata = {"name": "shop", "namespace": "shop"}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": items, **fields}}


def secret(name: str = "database", namespace: str | None = "shop", place: str = "shop/database") -> dict[str, Any]:
    sealed = Manifest("key", Scope.STRICT, "key-digest", {"dsn": "vault:v1:0"}, place=place)
    metadata = {"name": name, **({"namespace": namespace} if namespace else {})}
    data = {"dsn": "dmF1bHQ6djE6MA==", "user": "c2E=", MANIFEST_KEY: base64.b64encode(sealed.dump()).decode()}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}


REFERENCES = {
    "variable DSN of Secret database (secretKeyRef)": pod({"env": [FROM_KEY]}),
    "variables of Secret database (envFrom)": pod({"envFrom": [{"secretRef": {"name": "database"}}]}),
    "volume 'db' of Secret database": pod({"volumeMounts": [MOUNT]}, volumes=[VOLUME]),
    "volume 'all' of Secret database": pod(volumes=[PROJECTED]),
    "imagePullSecrets with Secret database": pod(imagePullSecrets=[{"name": "database"}]),
    "volume 'share' of Secret database": pod(volumes=[{"name": "share", "azureFile": {"secretName": "database"}}]),
    "volume 'disk' of Secret database": pod(volumes=[{"name": "disk", "rbd": {"secretRef": {"name": "database"}}}]),
    "volume 'csi' of Secret database": pod(
        volumes=[{"name": "csi", "csi": {"driver": "x", "nodePublishSecretRef": {"name": "database"}}}]
    ),
    "container 'migrate': variable DSN": pod(initContainers=[{"name": "migrate", "env": [FROM_KEY]}]),
}


@pytest.mark.parametrize("what", REFERENCES)
@pytest.mark.parametrize("way", ["init", "sidecar", "exec"])
def test_ciphertext_for_a_program_is_refused(what: str, way: str) -> None:
    manifest = REFERENCES[what]
    with pytest.raises(ConfigError, match="Kubernetes would hand over ciphertext") as refused:
        inject(manifest, way, **OPTIONS)
    assert what in str(refused.value)
    assert str(refused.value).startswith("Pod/shop: ")
    kept = inject(manifest, way, **OPTIONS, references="keep")
    assert inject(kept, way, **OPTIONS, references="keep") == kept


def test_other_secrets_and_data_keys_that_are_not_sealed_are_nobodys_business() -> None:
    other = {"name": "A", "valueFrom": {"secretKeyRef": {"name": "other", "key": "dsn"}}}
    plain = {"name": "B", "valueFrom": {"secretKeyRef": {"name": "database", "key": "user"}}}
    inject(pod({"env": [other]}), "exec", **OPTIONS)
    inject([secret(), pod({"env": [plain]})], "exec", **OPTIONS)
    for manifests in (pod({"env": [plain]}), [secret(), pod({"env": [FROM_KEY]})]):
        with pytest.raises(ConfigError, match="ciphertext"):
            inject(manifests, "exec", **OPTIONS)


def test_variables_are_rewritten_and_put_back() -> None:
    before = pod(
        {"env": [{"name": "A", "value": "1"}, FROM_KEY, SAME_NAME], "envFrom": [{"secretRef": {"name": "database"}}]}
    )
    new = inject(before, "exec", **OPTIONS, references="rewrite")
    (container,) = new["spec"]["containers"]
    assert container["env"] == [{"name": "A", "value": "1"}]
    assert "envFrom" not in container
    assert new["spec"]["initContainers"][0]["args"][-2:] == ["--exec", "--variable=DSN=dsn"]
    check_way_back(before, "exec")


@pytest.mark.parametrize("way", ["init", "sidecar"])
def test_files_are_rewritten_and_put_back(way: str) -> None:
    single = {"name": "db", "mountPath": "/run/dsn", "subPath": "dsn"}
    before = pod(
        {"volumeMounts": [{"name": "a", "mountPath": "/a"}, MOUNT, single]},
        volumes=[VOLUME, {"name": "a", "emptyDir": {}}],
    )
    new = inject(before, way, **OPTIONS, references="rewrite")
    (container,) = new["spec"]["containers"]
    assert container["volumeMounts"] == [
        {"name": "a", "mountPath": "/a"},
        {"name": "kubevault", "mountPath": "/etc/db", "readOnly": True},
        {"name": "kubevault", "mountPath": "/run/dsn", "readOnly": True, "subPath": "dsn"},
        {"name": "kubevault", "mountPath": "/kubevault", "readOnly": True},
    ]
    assert [volume["name"] for volume in new["spec"]["volumes"]] == [
        "a",
        "kubevault",
        "kubevault-ca",
        "kubevault-vault-token",
    ]
    check_way_back(before, way)


def check_way_back(before: dict[str, Any], way: str) -> None:
    """A second run changes nothing, one with other options only what the first added, and --remove leaves the text."""
    options = from_options({"with": way, **OPTIONS, "references": "rewrite"})
    other = from_options({"with": way, **OPTIONS, "references": "rewrite", "mount_path": "/other", "role": "else"})
    text = yaml.safe_dump(before, sort_keys=False)
    once = with_injection(text, "file", options)
    assert REPLACED_ANNOTATION in once
    assert with_injection(once, "file", options) == once
    assert yaml.safe_load(with_injection(once, "file", other)) == yaml.safe_load(with_injection(text, "file", other))
    assert yaml.safe_load(without_injection(once, "file")) == before


@pytest.mark.parametrize(
    ("manifest", "way", "options", "why"),
    [
        (pod({"env": [FROM_KEY]}), "init", {}, "variables are delivered with exec"),
        (pod({"volumeMounts": [MOUNT]}, volumes=[VOLUME]), "exec", {}, "files are delivered with init and sidecar"),
        (pod(volumes=[PROJECTED]), "init", {}, "a projected volume has other sources too"),
        (pod(volumes=[ITEMS]), "init", {}, "it renames data keys"),
        (pod(volumes=[VOLUME]), "init", {"config": "files"}, "files.yaml names the files"),
        (pod({"env": [{**FROM_KEY, "name": "db.dsn"}]}), "exec", {}, "its name has other characters"),
        (pod({"envFrom": [{"secretRef": {"name": "database"}}], "args": ["$(dsn)"]}), "exec", {}, "uses $(...)"),
        (pod({"env": [FROM_KEY], "livenessProbe": {"exec": {"command": ["a"]}}}), "exec", {}, "its probes or hooks"),
        (REFERENCES["volume 'disk' of Secret database"], "init", {}, "its driver reads it"),
        (pod(imagePullSecrets=[{"name": "database"}]), "init", {}, "kubelet reads it"),
        (REFERENCES["container 'migrate': variable DSN"], "exec", {}, "this container does not get the values"),
        (pod({"env": [FROM_KEY]}), "exec", {"secrets": ["database/json"]}, "only a data key of that Secret"),
        (pod({"env": [FROM_KEY], "args": ["--dsn=$(DSN)"]}), "exec", {}, "the manifest uses $(DSN)"),
        (
            pod({"envFrom": [{"prefix": "DB_", "secretRef": {"name": "database"}}]}),
            "exec",
            {},
            "its prefix is not that of --env-prefix",
        ),
        (
            pod(
                {"env": [FROM_KEY]},
                {"name": "b", "env": [{**FROM_KEY, "valueFrom": {"secretKeyRef": {"name": "database", "key": "x"}}}]},
            ),
            "exec",
            {},
            "variable DSN is dsn in one container, x in another",
        ),
    ],
)
def test_what_cannot_be_rewritten_is_refused(manifest: Any, way: str, options: Any, why: str) -> None:
    with pytest.raises(ConfigError) as refused:
        inject(manifest, way, **{**OPTIONS, **options}, references="rewrite")
    assert why in str(refused.value)


@pytest.mark.parametrize(
    ("variable", "key", "arguments", "more"),
    [
        ("dsn", "dsn", [], []),
        ("PASSWORD", "PASSWORD", ["--env-prefix=DB_"], ["--variable=PASSWORD=PASSWORD"]),
        ("DB_PASSWORD", "PASSWORD", ["--env-prefix=DB_"], []),
        ("tls_key", "tls.key", [], []),
    ],
)
def test_a_variable_keeps_its_name(variable: str, key: str, arguments: list[str], more: list[str]) -> None:
    before = pod({"env": [{"name": variable, "valueFrom": {"secretKeyRef": {"name": "database", "key": key}}}]})
    new = inject(before, "exec", **OPTIONS, references="rewrite", arguments=arguments)
    assert [each for each in new["spec"]["initContainers"][0]["args"] if each.startswith("--variable")] == more


def test_a_prefix_that_is_that_of_the_variables() -> None:
    before = pod({"envFrom": [{"prefix": "DB_", "secretRef": {"name": "database"}}]})
    for arguments in (["--env-prefix=DB_"], ["--env-prefix", "DB_"]):
        new = inject(before, "exec", **OPTIONS, references="rewrite", arguments=arguments)
        assert "envFrom" not in new["spec"]["containers"][0]


def test_an_annotation_that_somebody_else_wrote() -> None:
    new = inject(pod({"env": [FROM_KEY]}), "exec", **OPTIONS, references="rewrite")
    new["metadata"]["annotations"][REPLACED_ANNOTATION] = "[1]"
    with pytest.raises(ConfigError, match=r"annotation kubevault\.io/replaced was not written by kubevault inject"):
        inject(new, "exec", **OPTIONS)


@pytest.mark.parametrize(
    ("copy", "refused"),
    [
        (secret(place="payments/database"), True),
        (secret(place="shop/old"), True),
        (secret(namespace=None, place="payments/database"), True),
        (secret(), False),
        (secret(namespace=None), False),
        (secret(namespace="elsewhere", place="payments/database"), False),
        (secret(name="other", place="payments/database"), False),
    ],
)
def test_a_copy_that_nobody_can_open_is_refused(copy: dict[str, Any], refused: bool) -> None:
    if refused:
        with pytest.raises(ConfigError, match="Secret database is a copy: its values were sealed for"):
            inject([copy, pod()], "init", **OPTIONS)
    else:
        inject([copy, pod()], "init", **OPTIONS)


def test_a_copy_in_a_file_of_its_own(tmp_path: Any) -> None:
    text = yaml.safe_dump(pod())
    options = from_options({"with": "init", **OPTIONS})
    with pytest.raises(ConfigError, match="file: Pod/shop: Secret database is a copy"):
        with_injection(text, "file", options, [secret(place="payments/database")])
