"""Rewrap one Secret that a caller names, as a service does that holds nothing but a right to that."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Protocol

from ..errors import ConfigError, ConflictError, SealedDataError
from ..sealed import key_version, manifest_of, with_ciphertexts
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import TransitItem
from .planning import Options, Skip, make_candidate
from .proving import Prover, Rewrapped, prove
from .rewrapper import ATTEMPTS, replace


class Rewrap(Prover, Protocol):
    """Has Vault rewrap, and prove that it did, as `servers.vault.VaultClient` does."""

    def rewrap(self, key: str, items: Sequence[TransitItem]) -> list[str]:
        """Return each ciphertext as the newest version of the key makes it."""


def rewrap_secret(
    kubernetes: KubernetesClient,
    vault: Rewrap,
    namespace: str,
    name: str,
    transit_key: str | None = None,
    *,
    gitops: bool = False,
    recreate: bool = False,
) -> dict[str, int]:
    """Rewrap the values of a Secret, and write it if it is still as it was read; otherwise do so again.

    All values are rewrapped, and those that were not behind are thrown away: the newest version need not be known, and
    no right to read the key is needed.

    Args:
        kubernetes: client that may get and update the Secret.
        vault: has Vault rewrap.
        namespace: the Secret's namespace.
        name: its name.
        transit_key: Transit key whose values are rewrapped, also those that an older tool sealed; None for the one that
            the manifest names.
        gitops: also if Argo CD or Flux owns the Secret.
        recreate: also if it is immutable: it is deleted and made again.

    Returns:
        The new version of each value that was behind, by data key.

    Raises:
        SealedDataError: nothing in it is sealed with that key, or a value or the manifest is damaged.
        ConfigError: it is immutable, being deleted, or owned by Argo CD or Flux.
        ConflictError: others kept writing it in between.
        DecryptionFailed, PermissionDenied, TransitKeyNotFound: Vault refused.
        SecretNotFound, Forbidden: Kubernetes refused.
    """
    place = f"{namespace}/{name}"
    attempt = 0
    while True:
        attempt += 1
        secret = kubernetes.get_secret(namespace, name)
        manifest = manifest_of(secret)
        key = transit_key or (manifest.transit_key if manifest else "")
        options = Options(key, unmanaged=bool(transit_key), gitops=gitops, recreate=recreate)
        candidate = make_candidate(secret, sys.maxsize, options)
        if candidate is None:
            message = f"nothing in it is sealed with Transit key {key}" if key else "no manifest names its Transit key"
            raise SealedDataError(message, place=place, remedy="name transit_key")
        if candidate.skip in (Skip.DAMAGED, Skip.COPY):
            raise SealedDataError(str(candidate.skip), place=place)
        texts = dict(zip(candidate.behind, vault.rewrap(key, list(candidate.behind.values())), strict=True))
        before = {data_key: key_version(item.value.decode()) for data_key, item in candidate.behind.items()}
        new_versions = {data_key: key_version(text) for data_key, text in texts.items()}
        versions = {
            data_key: version for data_key, version in new_versions.items() if version and version != before[data_key]
        }
        if not versions:
            return {}
        if candidate.skip:
            raise ConfigError(str(candidate.skip), place=place)
        try:
            rewrapped_secret = with_ciphertexts(secret, {data_key: texts[data_key] for data_key in versions})
            (new,) = prove(vault, key, [Rewrapped(secret, rewrapped_secret, versions.keys())])
            replace(kubernetes, secret, new)
        except ConflictError:
            if attempt == ATTEMPTS:
                raise
        else:
            return versions
