"""What one tenant writes into Secrets of one namespace ends nothing for the others: it is told by its name."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

from support import forked
from support.cluster import own_namespace
from support.sealing import Chain, environment
from test_rotation import VALUES, Life, make

from secretmanager.sealed import MANIFEST_KEY, SEALED_LABEL
from secretmanager.sealing.exposure import APPLIED_ANNOTATION


def manifest(**facts: Any) -> bytes:
    whole = {"format": 1, "transit_key": "k", "scope": "strict", "digest_key": "k-digest", "digests": {}, **facts}
    return json.dumps(whole).encode()


HOSTILE = {
    "version-of-digits": {"a": b"vault:v" + b"9" * 5000 + b":AAAA"},
    "brackets": {MANIFEST_KEY: b"[" * 100_000, "a": b"vault:v1:AAAA"},
    "number-of-digits": {MANIFEST_KEY: b'{"format": ' + b"9" * 5000 + b"}", "a": b"vault:v1:AAAA"},
    "key-with-space": {MANIFEST_KEY: manifest(transit_key="a b"), "a": b"vault:v1:AAAA"},
    "key-of-a-path": {MANIFEST_KEY: manifest(transit_key="../../sys/seal"), "a": b"vault:v1:AAAA"},
    "digest-key-of-a-path": {MANIFEST_KEY: manifest(digest_key="../x"), "a": b"vault:v1:AAAA"},
    "data-key-of-a-terminal": {MANIFEST_KEY: manifest(digests={"\x1b[2J": "vault:v1:AAAA"}), "a": b"vault:v1:AAAA"},
    "place-of-a-terminal": {MANIFEST_KEY: manifest(place="x/\x1b[2J"), "a": b"vault:v1:AAAA"},
    "format-of-a-terminal": {MANIFEST_KEY: manifest(format="\x1b[2J" * 1000), "a": b"vault:v1:AAAA"},
    "lone-surrogate": {MANIFEST_KEY: manifest(transit_key="\ud800"), "a": b"vault:v1:AAAA"},
    "not-a-dict": {MANIFEST_KEY: b"[]", "a": b"vault:v1:AAAA"},
}


DAMAGED = HOSTILE.keys() - {"version-of-digits"}
"""Those whose manifest is told."""

LEFT_BY_APPLY = {"left-brackets": "[" * 100_000, "left-list": '{"data": ["x"]}', "left-text": '{"stringData": "x"}'}
"""What stands in the annotation of ``kubectl apply``, by name."""


def plant(life: Life) -> None:
    """Write what is hostile, and Secrets that are to pass as copies."""
    labels = {SEALED_LABEL: "true"}
    for name, text in LEFT_BY_APPLY.items():
        metadata = {"name": name, "labels": labels, "annotations": {APPLIED_ANNOTATION: text}}
        life.chain.api.create_namespaced_secret(life.chain.namespace, {"metadata": metadata})
    for name, values in HOSTILE.items():
        life.chain.put(name, values)
        life.chain.api.patch_namespaced_secret(name, life.chain.namespace, {"metadata": {"labels": labels}})
    for number, text in enumerate(("x", "[]", "{}", "[" * 50_000)):
        metadata = {"name": f"copy-{number}", "labels": labels, "annotations": {"kubevault.io/copy-of": text}}
        life.chain.api.create_namespaced_secret(life.chain.namespace, {"metadata": metadata})


def test_rotation_and_information_go_on(chain: Chain, name: str, tmp_path: Path) -> None:
    with own_namespace("hostile") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=True)
        life.seal(life.spec(name))
        plant(life)
        done = life.run("rotate", "--older-than", "0", "--rewrap", "--recreate", "--namespace", life.chain.namespace)
        assert done["rewrapped"] == [life.place(name)]
        assert (done["failed"], life.versions(name)) == ({}, {2})
        assert life.chain.opened(name) == VALUES
        assert life.run("retire", who="all")["retired"] is True
        arguments = [
            "info",
            life.chain.namespace,
            "--transit-key",
            life.key,
            "--fail-if",
            "damaged",
            "--fail-if",
            "plain",
        ]
        info = forked.kubevault(*arguments, env=environment(life.chain, tmp_path / "rotator"))
        told = info.stderr.decode()
        assert info.returncode == 3, told
        for hostile in DAMAGED:
            assert f"{life.place(hostile)}: damaged: {MANIFEST_KEY}" in told
        for left in LEFT_BY_APPLY:
            assert f"{life.place(left)}: plain: {APPLIED_ANNOTATION}" in told
        assert told.replace("\n", "").isprintable()


LARGE = 80
"""Secrets of nearly a megabyte that one tenant writes; with all of them in memory, a run takes 300 MiB and more."""

MEMORY = 200 * 1024 * 1024
"""Bytes that a run may have, of which Python and the imports take 50 MiB."""


@contextmanager
def large(life: Life, *, sealed: int) -> Iterator[None]:
    """Write large Secrets, of which the key has sealed some; delete them in the end, since others list all."""
    chain, labels = life.chain, {SEALED_LABEL: "true"}
    junk = {"big": base64.b64encode(os.urandom(950_000)).decode(), "a": base64.b64encode(b"vault:v1:AAAA").decode()}
    try:
        for number in range(LARGE - sealed):
            body = {"metadata": {"name": f"large-{number}", "labels": labels}, "data": junk}
            chain.api.create_namespaced_secret(chain.namespace, body)
        for number in range(sealed):
            life.seal(life.spec(f"sealed-{number}", {"a": b"PLAIN-" + bytes(700_000)}))
        yield
    finally:
        chain.api.delete_collection_namespaced_secret(chain.namespace)


def test_large_secrets_take_no_memory(chain: Chain, name: str, tmp_path: Path) -> None:
    with own_namespace("large") as cluster:
        life = make(replace(chain, cluster=cluster), name, tmp_path, derived=False)
        key, here = ["--transit-key", life.key], ["--namespace", cluster.namespace]
        with large(life, sealed=10):
            for who, status, *arguments in (
                ("rotator", 0, "info", cluster.namespace, *key),
                ("rotator", 3, "rotate", *key, "--older-than", "0", "--rewrap", *here, "--check"),
                ("rotator", 0, "rotate", *key, "--older-than", "0", "--rewrap", *here),
                ("rotator", 0, "rewrap", *key, "--unmanaged", *here),
                ("retirer", 0, "retire", *key),
            ):
                done, peak = forked.peak(*arguments, env=environment(life.chain, tmp_path / who))
                assert done.returncode == status, done.stderr
                assert peak < MEMORY, (arguments, peak)
            assert all(life.versions(f"sealed-{number}") == {2} for number in range(10))
