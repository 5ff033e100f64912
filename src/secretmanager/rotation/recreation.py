"""Recreate immutable Secrets so that none is lost: a copy is kept until the new one is there.

A run that was broken off in between leaves the copy behind, and the next run finishes the work, after all else.
"""

from __future__ import annotations

import json
from contextlib import suppress
from hashlib import sha256

from ..errors import ConflictError, SecretNotFound
from ..sealed import SEALED_LABEL
from ..sealing.plan import OF_THE_SERVER
from ..servers.kubernetes import KubernetesClient, Object, check_return, create_again

COPY_OF = "kubevault.io/copy-of"
"""Annotation of a copy: all of the original but its data, as JSON."""


def is_copy(secret: Object) -> bool:
    """Whether a Secret is a copy that a recreation left behind."""
    return COPY_OF in (secret["metadata"].get("annotations") or {})


def original(copy: Object) -> Object:
    """Return the Secret that a copy stands for, as it is created again."""
    return {**json.loads(copy["metadata"]["annotations"][COPY_OF]), "data": copy.get("data") or {}}


def check(kubernetes: KubernetesClient, secret: Object) -> None:
    """Check that a Secret could be created again if it were deleted; errors as of `recreate`."""
    check_return(kubernetes, secret["metadata"]["namespace"], original(_copy(secret)))


def recreate(kubernetes: KubernetesClient, found: Object, secret: Object) -> None:
    """Replace an immutable Secret, if it is still as it was found.

    Args:
        kubernetes: client that may also create and delete Secrets.
        found: the Secret as found.
        secret: the same with its new content.

    Raises:
        ConflictError: another writer changed it in between; nothing is changed then.
        Forbidden: RBAC lacks ``create`` or ``delete``, or something would keep the Secret from being created again.
        KubernetesError: so would its content, or a webhook.
    """
    namespace, copy = found["metadata"]["namespace"], _copy(secret)
    check(kubernetes, secret)
    try:
        copy = kubernetes.create_secret(namespace, copy)
    except ConflictError:  # of a run that was broken off before it deleted the original
        with suppress(SecretNotFound):  # another run has finished it
            kubernetes.delete_secret(namespace, kubernetes.get_secret(namespace, copy["metadata"]["name"]))
        copy = kubernetes.create_secret(namespace, copy)
    try:
        kubernetes.delete_secret(namespace, found)
    except ConflictError:
        kubernetes.delete_secret(namespace, copy)
        raise
    finish(kubernetes, copy)


def finish(kubernetes: KubernetesClient, copy: Object) -> Object | None:
    """Make the original of a copy, unless it is there, and delete the copy; return what was made."""
    namespace, secret = copy["metadata"]["namespace"], None
    with suppress(ConflictError):  # it is there
        secret = create_again(kubernetes, namespace, original(copy))
    with suppress(SecretNotFound, ConflictError):  # another run has finished it
        kubernetes.delete_secret(namespace, copy)
    return secret


def _copy(secret: Object) -> Object:
    metadata = {name: value for name, value in secret["metadata"].items() if name not in OF_THE_SERVER}
    rest = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata}
    rest |= {name: secret[name] for name in ("type", "immutable") if name in secret}
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": {
            "namespace": metadata["namespace"],
            # A hash, since a name may be as long as that of a copy; two Secrets never share a copy.
            "name": f"kubevault-copy-{sha256(metadata['name'].encode()).hexdigest()[:32]}",
            "labels": {SEALED_LABEL: "true"},
            "annotations": {COPY_OF: json.dumps(rest)},
        },
        "data": secret["data"],
    }
