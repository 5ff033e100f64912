"""Plaintext that stays beside the ciphertext: annotations that hold the values of sealed data keys.

``kubectl apply`` of an older plaintext manifest over a sealed Secret leaves the values in its annotation, also after
they were sealed again. ``managedFields`` hold names of fields and no values, so nothing has to be done about them:
https://kubernetes.io/docs/reference/using-api/server-side-apply/#field-management
"""

from __future__ import annotations

import base64
import json
from collections.abc import Container, Iterable, Mapping
from typing import Any

from ..sealed import MANIFEST_KEY, key_version

APPLIED_ANNOTATION = "kubectl.kubernetes.io/last-applied-configuration"
"""Annotation in which ``kubectl apply`` keeps everything that it applied, including values."""

SHORT = 8
"""Bytes below which a plaintext could occur in an annotation by coincidence."""


def exposing_annotations(
    secret: Mapping[str, Any], sealed_keys: Container[str], plaintexts: Iterable[bytes] = ()
) -> list[str]:
    """Return the names of annotations that hold plaintext of sealed data keys.

    Args:
        secret: as the Kubernetes API returns it.
        sealed_keys: its data keys that are sealed, or will be.
        plaintexts: their values, as far as they are known; they are looked for in all annotations, as text and base64.
    """
    annotations: Mapping[str, str] = (secret.get("metadata") or {}).get("annotations") or {}
    if not annotations:
        return []
    needles = [needle for plaintext in plaintexts if len(plaintext) >= SHORT for needle in _forms(plaintext)]
    return sorted(
        name
        for name, text in annotations.items()
        if (name == APPLIED_ANNOTATION and _applied_plaintext(text, sealed_keys))
        or any(needle in text for needle in needles)
    )


def _applied_plaintext(text: str, sealed_keys: Container[str]) -> bool:
    try:
        applied = json.loads(text)
    except (ValueError, RecursionError):
        return True  # nobody can say what it holds
    if not isinstance(applied, dict):
        return True
    for section, encoded in (("data", True), ("stringData", False)):
        values = applied.get(section) or {}
        if not isinstance(values, dict):
            return True
        for key, value in values.items():
            if key in sealed_keys and key != MANIFEST_KEY and not _is_ciphertext(str(value), encoded=encoded):
                return True
    return False


def _is_ciphertext(value: str, *, encoded: bool) -> bool:
    try:
        text = base64.b64decode(value).decode() if encoded else value
    except ValueError:
        return False
    return key_version(text) is not None


def _forms(plaintext: bytes) -> Iterable[str]:
    """Yield the forms in which a value occurs in an annotation: base64, and as text, plain or in JSON."""
    yield base64.b64encode(plaintext).decode("ascii")
    try:
        text = plaintext.decode()
    except UnicodeDecodeError:
        return
    yield text
    yield json.dumps(text)[1:-1]
    yield json.dumps(text, ensure_ascii=False)[1:-1]
