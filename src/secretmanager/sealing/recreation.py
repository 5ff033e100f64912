"""Recreate Secrets that Kubernetes does not change so that none is lost: a copy is kept until the new one is there.

A run that was broken off in between leaves the copy behind, and the next run finishes the work.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from contextlib import suppress
from hashlib import sha256
from typing import Any

from ..errors import ConflictError, Forbidden, KubernetesError, SealedDataError, SecretManagerError, SecretNotFound
from ..sealed import SEALED_LABEL, manifest_of, place_of, sealed_values
from ..servers.kubernetes import KubernetesClient, Object, check_return, create_again, is_quota_exceeded
from . import types
from .plan import LEFT, OF_THE_SERVER, being_deleted, finalizers_of

COPY_OF = "kubevault.io/copy-of"
"""Annotation of a copy: all of the original but its data, as JSON."""

TIMEOUT = 30.0
"""Time to wait by default until a deleted Secret is gone, in seconds."""


def is_copy(secret: Object) -> bool:
    """Whether a Secret is a copy that a recreation left behind, and not something else that is to pass as one.

    Who can write Secrets of a namespace must get nothing made by it that only who recreates could make: a copy stands
    for a sealed Secret of its own namespace, whose name its own is made of, and of no type that others fill or trust.
    """
    if COPY_OF not in (secret["metadata"].get("annotations") or {}):
        return False
    try:
        stands_for = original(secret)
        metadata, manifest = stands_for["metadata"], manifest_of(stands_for)
        own = (metadata["namespace"], copy_name(metadata["name"]))
        return bool(
            own == (secret["metadata"]["namespace"], secret["metadata"]["name"])
            and (stands_for["apiVersion"], stands_for["kind"]) == ("v1", "Secret")
            and (
                manifest.is_of(place_of(stands_for)) if manifest else sealed_values(stands_for)
            )  # none: of an older tool
            and not types.refusal(stands_for.get("type"), stands_for["data"].keys())
        )
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError, SealedDataError):
        return False


def copy_name(name: str) -> str:
    """Return the name of a Secret's copy: a hash, since a name may be as long as that of a copy."""
    return f"kubevault-copy-{sha256(name.encode()).hexdigest()[:32]}"


def left_of(copy: Object) -> Object:
    """Return the Secret of which a run that was broken off left this copy alone, for `plan.make_draft`."""
    return {**original(copy), LEFT: copy}


def original(copy: Object) -> Object:
    """Return the Secret that a copy stands for, as it is created again."""
    return {**json.loads(copy["metadata"]["annotations"][COPY_OF]), "data": copy.get("data") or {}}


def check(kubernetes: KubernetesClient, existing: Object, secret: Object) -> None:
    """Check that a Secret could be deleted and created again; arguments and errors as of `recreate`."""
    namespace = existing["metadata"]["namespace"]
    check_return(kubernetes, namespace, _anew(secret))
    kubernetes.delete_secret(namespace, existing, dry_run=True)


def restore(kubernetes: KubernetesClient, copy: Object, secret: Object, *, dry_run: bool = False) -> Object:
    """Create a Secret of which a run that was broken off left a copy alone, with new content.

    Args:
        kubernetes: client that may also create and delete Secrets.
        copy: the copy, which is deleted then.
        secret: the Secret as it will be.
        dry_run: have the API validate the creation, and do no more.

    Raises:
        ConflictError: it is there again.
        Forbidden, KubernetesError: as of `recreate`; the copy stays then.
    """
    if dry_run:
        return kubernetes.create_secret(secret["metadata"]["namespace"], secret, dry_run=True)
    created = create_again(kubernetes, secret["metadata"]["namespace"], secret)
    _delete_copy(kubernetes, copy)
    return created


def recreate(
    kubernetes: KubernetesClient, existing: Object, secret: Object, timeout: float = TIMEOUT, *, crowded: bool = False
) -> Object:
    """Replace a Secret by deletion and creation, if it is still as it was found.

    Args:
        kubernetes: client that may also create and delete Secrets.
        existing: the Secret as found.
        secret: the same with its new content.
        timeout: time to wait until a Secret that has finalizers is gone, in seconds.
        crowded: do without a copy where a quota has no room for it.

    Returns:
        The new Secret.

    Raises:
        ConflictError: another writer changed it in between; nothing is changed then.
        Forbidden: RBAC lacks ``create`` or ``delete``, or something would keep the Secret from being created again.
        KubernetesError: so would its content, or a webhook; or the old one is not gone after the timeout.
    """
    namespace = existing["metadata"]["namespace"]
    new = _anew(secret)
    check_return(kubernetes, namespace, new)
    copy = _kept(kubernetes, namespace, _copy(new), crowded=crowded)
    try:
        with suppress(SecretNotFound):  # gone already
            kubernetes.delete_secret(namespace, existing)
    except ConflictError:
        if copy:
            _delete_copy(kubernetes, copy)
        raise
    if finalizers_of(existing):
        _wait_until_gone(kubernetes, namespace, existing["metadata"], timeout)
    try:
        created = finish(kubernetes, copy) if copy else create_again(kubernetes, namespace, new)
    except SecretManagerError as error:
        hint = f"; its copy {copy['metadata']['name']} is there" if copy else ""
        error.remedy = f"run again: the old Secret is deleted already, and the new one could not be made{hint}"
        raise
    if created is None:
        created = kubernetes.get_secret(namespace, existing["metadata"]["name"])
        if created.get("data") != secret["data"]:
            raise ConflictError("somebody else created it again", place=place_of(existing))
    return created


def finish(kubernetes: KubernetesClient, copy: Object) -> Object | None:
    """Make the original of a copy, unless it is there, and delete the copy; return what was made.

    Raises:
        KubernetesError: the original is still being deleted; the copy stays then.
    """
    namespace, secret = copy["metadata"]["namespace"], original(copy)
    created = None
    try:
        created = create_again(kubernetes, namespace, secret)
    except ConflictError:
        try:
            ending = being_deleted(kubernetes.get_secret(namespace, secret["metadata"]["name"]))
        except SecretNotFound:
            created = create_again(kubernetes, namespace, secret)  # its end came in between
        else:
            if ending:
                raise KubernetesError(
                    f"{ending}; its copy {copy['metadata']['name']} stays until it is gone",
                    place=f"{namespace}/{secret['metadata']['name']}",
                    remedy="run again when it is gone",
                ) from None
    _delete_copy(kubernetes, copy)
    return created


def _delete_copy(kubernetes: KubernetesClient, copy: Object) -> None:
    with suppress(SecretNotFound, ConflictError):  # another run has finished it
        kubernetes.delete_secret(copy["metadata"]["namespace"], copy)


def _kept(kubernetes: KubernetesClient, namespace: str, copy: Object, *, crowded: bool) -> Object | None:
    """Create a copy; return None where a quota has no room for it and that is no error."""
    try:
        return kubernetes.create_secret(namespace, copy)
    except ConflictError:  # of a run that was broken off before it deleted the original
        with suppress(SecretNotFound):  # another run has finished it
            kubernetes.delete_secret(namespace, kubernetes.get_secret(namespace, copy["metadata"]["name"]))
        return kubernetes.create_secret(namespace, copy)
    except Forbidden as error:
        if not (crowded and is_quota_exceeded(error)):
            raise
        return None


def _anew(secret: Object) -> Object:
    """Return a Secret as it is created, without what the API sets."""
    metadata = {name: value for name, value in secret["metadata"].items() if name not in OF_THE_SERVER}
    fields: Object = {name: secret[name] for name in ("type", "immutable", "data") if name in secret}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, **fields}


def _copy(new: Object) -> Object:
    """Return the copy of a Secret as it is created: `original` is its inverse."""
    metadata = new["metadata"]
    rest = {name: value for name, value in new.items() if name != "data"}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": metadata["namespace"],
            "name": copy_name(metadata["name"]),
            "labels": {SEALED_LABEL: "true"},
            "annotations": {COPY_OF: json.dumps(rest)},
        },
        "data": new["data"],
    }


def _wait_until_gone(kubernetes: KubernetesClient, namespace: str, metadata: Mapping[str, Any], timeout: float) -> None:
    """Wait for the end of a Secret that has finalizers.

    Raises:
        KubernetesError: it is still there after the timeout.
    """
    deadline, pause = time.monotonic() + timeout, 0.05
    with suppress(SecretNotFound):
        while (current := kubernetes.get_secret(namespace, metadata["name"]))["metadata"]["uid"] == metadata["uid"]:
            if time.monotonic() > deadline:
                raise KubernetesError(
                    f"{being_deleted(current)}; it is still there after {timeout:g} s",
                    place=f"{namespace}/{metadata['name']}",
                    remedy="run again when it is gone: it is deleted, and the new one is not created yet",
                )
            time.sleep(pause)
            pause = min(2 * pause, 1.0)
