"""Types of Secrets that Kubernetes, Helm or a controller reads itself, and which ciphertext would break.

Source: https://kubernetes.io/docs/concepts/configuration/secret/#secret-types
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple

SERVICE_ACCOUNT_TOKEN = "kubernetes.io/service-account-token"
"""Kubernetes itself fills such a Secret."""


class Reader(NamedTuple):
    """Who reads the Secrets of a type.

    Attributes:
        who: who it is, and for what.
        keys: the data keys that it reads; None for all.
        only: whether no program of anybody's own reads them.
    """

    who: str
    keys: frozenset[str] | None
    only: bool


READERS = {
    SERVICE_ACCOUNT_TOKEN: Reader("Kubernetes, which fills it", None, only=True),
    "kubernetes.io/dockerconfigjson": Reader(
        "kubelet, which pulls images with it", frozenset({".dockerconfigjson"}), only=True
    ),
    "kubernetes.io/dockercfg": Reader("kubelet, which pulls images with it", frozenset({".dockercfg"}), only=True),
    "bootstrap.kubernetes.io/token": Reader("Kubernetes, which lets nodes join with it", None, only=True),
    "helm.sh/release.v1": Reader("Helm, which keeps a release in it", frozenset({"release"}), only=True),
    "kubernetes.io/tls": Reader(
        "each Ingress, Gateway or webhook that names it, which would serve ciphertext",
        frozenset({"tls.crt", "tls.key", "ca.crt"}),
        only=False,
    ),
    "kubernetes.io/basic-auth": Reader(
        "controllers that look for this type, as those of Tekton and Flux",
        frozenset({"username", "password"}),
        only=False,
    ),
    "kubernetes.io/ssh-auth": Reader(
        "controllers that look for this type, as those of Tekton and Flux", frozenset({"ssh-privatekey"}), only=False
    ),
}
"""Who reads the Secrets of a type, other than programs by kubevault."""


def refusal(secret_type: str | None, keys: Collection[str]) -> str | None:
    """Say why nothing is to be sealed in these data keys of a Secret of a type, and what else to do; None if it may be.

    Args:
        secret_type: its type.
        keys: the data keys to seal.
    """
    reader = _reader(secret_type, keys)
    if not reader or not reader.only:
        return None
    return (
        f"type {secret_type} is read by {reader.who}, and by nobody else: it cannot be sealed;"
        " leave such a Secret as it is, and have etcd encrypted for it"
    )


def warning(secret_type: str | None, keys: Collection[str]) -> str | None:
    """Say who breaks if these data keys of a Secret of a type are sealed; None if nobody does."""
    reader = _reader(secret_type, keys)
    if not reader or reader.only:
        return None
    return (
        f"type {secret_type} is also read by {reader.who}; leave their Secrets as they are, and seal without a type"
        " what a program reads by itself"
    )


def _reader(secret_type: str | None, keys: Collection[str]) -> Reader | None:
    reader = READERS.get(secret_type or "")
    return reader if reader and keys and (reader.keys is None or not reader.keys.isdisjoint(keys)) else None
