"""Plan the changes for one Secret, by pure functions: from the Secret as found to the Secret as it will be."""

from __future__ import annotations

import base64
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field, replace
from enum import StrEnum
from functools import cached_property
from typing import Any, TypeVar

from ..errors import ConfigError, SealedDataError
from ..sealed import (
    MANIFEST_KEY,
    SEALED_LABEL,
    Manifest,
    Place,
    Scope,
    checksum,
    encode,
    encoded_version,
    is_plaintext,
    key_version,
    manifest_of,
    oldest_version,
    text_of,
)
from . import types
from .exposure import exposing_annotations
from .spec import (
    SECRET_BYTES,
    Behavior,
    SecretSpec,
    State,
    size_problem,
)

Object = dict[str, Any]
T = TypeVar("T")

OF_THE_SERVER = (
    "uid",
    "resourceVersion",
    "creationTimestamp",
    "deletionTimestamp",
    "deletionGracePeriodSeconds",
    "selfLink",
    "generation",
    "managedFields",
)
"""Fields of ``metadata`` that the API sets: a new object, or a manifest, has none of them."""

LEFT = "kubevault.io/left"
"""Key of a Secret as found that is gone but for the copy under it, which a recreation that was broken off left."""


ALTERED = "not as sealed: somebody changed ciphertext or manifest, or rewrapped it without a proof"


class Action(StrEnum):
    """What happens to a Secret."""

    UNCHANGED = "unchanged"
    CREATED = "created"
    UPDATED = "updated"
    RECREATED = "recreated"
    DELETED = "deleted"
    DELETING = "deleting"
    """It is deleted, but Kubernetes keeps it until its finalizers are done."""


@dataclass(frozen=True)
class Outcome:
    """What sealing did to one Secret, or in check mode would do. It names data keys and holds no value.

    Attributes:
        namespace: the Secret's namespace.
        name: its name.
        action: what happened to it.
        transit_key: Transit key that its values are sealed with; None if it does not exist.
        scope: where they decrypt; None if there are none, or if that depends on a Transit key that does not exist yet.
        added: data keys that are new.
        updated: data keys that were sealed again.
        removed: data keys that are gone.
        adopted: those of ``updated`` whose plaintext was found in the Secret.
        metadata: what else changed: ``labels``, ``annotations``, ``type``, ``immutable``.
        awaits: what does not exist yet, in check mode alone: ``Transit key NAME``, ``namespace NAME``.
        finalizers: what keeps a Secret that is, or was to be, deleted: it still exists.
        plain: data keys that were sealed here, hold plaintext now, and are left so.
        altered: data keys that were not as they were sealed, and are sealed again.
        unproven: data keys that are not as they were sealed, and are left so, since their values are not given.
        corrected: what the manifest said that was not so, as a sentence; None if that is nothing.
        breaks: who reads the Secret's type and would get ciphertext, as a sentence; None if nobody does.
        digest: `values_digest` of the Secret as it is then; None if nothing is sealed in it.
    """

    namespace: str
    name: str
    action: Action
    transit_key: str | None = None
    scope: Scope | None = None
    added: tuple[str, ...] = ()
    updated: tuple[str, ...] = ()
    removed: tuple[str, ...] = ()
    adopted: tuple[str, ...] = ()
    metadata: tuple[str, ...] = ()
    awaits: tuple[str, ...] = ()
    finalizers: tuple[str, ...] = ()
    plain: tuple[str, ...] = ()
    altered: tuple[str, ...] = ()
    unproven: tuple[str, ...] = ()
    corrected: str | None = None
    breaks: str | None = None
    digest: str | None = None

    @property
    def changed(self) -> bool:
        """Whether the Secret was, or would be, written."""
        return self.action is not Action.UNCHANGED

    def facts(self) -> dict[str, Any]:
        """Return the outcome as a JSON object."""
        return {
            "namespace": self.namespace,
            "name": self.name,
            "action": str(self.action),
            "transit_key": self.transit_key,
            "scope": str(self.scope) if self.scope else None,
            "added": list(self.added),
            "updated": list(self.updated),
            "removed": list(self.removed),
            "adopted": list(self.adopted),
            "metadata": list(self.metadata),
            **({"awaits": list(self.awaits)} if self.awaits else {}),
            **({"finalizers": list(self.finalizers)} if self.finalizers else {}),
            **({"plain": list(self.plain)} if self.plain else {}),
            **({"altered": list(self.altered)} if self.altered else {}),
            **({"unproven": list(self.unproven)} if self.unproven else {}),
        }

    @property
    def warnings(self) -> list[str]:
        """What still exists that should be absent, what somebody changed, and who gets ciphertext."""
        place, texts = f"{self.namespace}/{self.name}", []
        if self.finalizers:
            names = ", ".join(self.finalizers)
            texts.append(f"{place}: is being deleted, and exists until its finalizers are done: {names}")
        if self.plain:
            names = ", ".join(self.plain)
            texts.append(f"{place}: somebody wrote plaintext over the sealed data keys {names}; set adopt to seal it")
        if self.corrected:
            texts.append(f"{place}: {self.corrected}")
        if self.altered:
            names = ", ".join(self.altered)
            texts.append(f"{place}: {names}: {ALTERED}; sealed again from the given values")
        if self.unproven:
            names = ", ".join(self.unproven)
            texts.append(f"{place}: {names}: {ALTERED}; give the values to seal them again")
        if self.breaks:
            texts.append(f"{place}: {self.breaks}")
        return texts

    def diff(self, spec: SecretSpec) -> dict[str, Any]:
        """Return the structure before and after, as Ansible's ``--diff`` shows it, without any value.

        A data key that stays is left out; a word says what happens to the others.

        Args:
            spec: the Secret as wanted.
        """
        before: dict[str, Any] = {"data": dict.fromkeys(self.updated, "sealed") | dict.fromkeys(self.removed, "exists")}
        after: dict[str, Any] = {
            "data": dict.fromkeys(self.added, "sealed") | dict.fromkeys(self.updated, "sealed again")
        }
        for name in self.metadata:
            before[name], after[name] = "different", getattr(spec, name)
        header = f"{self.namespace}/{self.name}"
        created = self.action is Action.CREATED
        return {
            "before_header": header,
            "after_header": f"{header} ({self.action})",
            "before": {} if created else {name: value for name, value in before.items() if value},
            "after": {name: value for name, value in after.items() if value},
        }


@dataclass(frozen=True)
class Draft:
    """A Secret as wanted and as found, validated as far as possible without Vault.

    Attributes:
        spec: the Secret as wanted.
        existing: the Secret as found; None if it does not exist.
        manifest: its manifest; None if it has none, or a damaged one that ``force`` discards.
        values: what is to be sealed in it: what was given, and what is adopted. Stays out of repr().
        proven: those of the `intact` data keys of which it is proven that they are as they were sealed.
        corrected: whether the Secret as found has another manifest, of which nothing is proven.
    """

    spec: SecretSpec
    existing: Object | None
    manifest: Manifest | None
    values: Mapping[str, bytes] = field(repr=False)
    proven: frozenset[str] = frozenset()
    corrected: bool = False

    def place(self, key: str) -> Place:
        """Return the place of one of its values."""
        return Place(self.spec.namespace, self.spec.name, key)

    @property
    def data(self) -> Mapping[str, str]:
        """The data of the Secret as found, in base64, without the manifest."""
        return {key: text for key, text in ((self.existing or {}).get("data") or {}).items() if key != MANIFEST_KEY}

    @property
    def type(self) -> str | None:
        """The Secret's type as it will be; None for that of a new Secret."""
        return self.spec.type or (self.existing or {}).get("type")

    @property
    def ours(self) -> set[str]:
        """Existing data keys that were sealed here."""
        return set(self.manifest.digests if self.manifest else ()) & self.data.keys()

    @cached_property
    def intact(self) -> set[str]:
        """Those of them whose ciphertext is the one of the manifest."""
        manifest = self.manifest
        return {key for key in self.ours if manifest and manifest.is_intact(key, text_of(self.data[key]))}

    @cached_property
    def altered(self) -> set[str]:
        """Existing data keys that were sealed here and are not as they were sealed; none if nothing was ever proven."""
        return self.ours - self.plain - self.proven if self.manifest and self.manifest.proofs else set()

    @property
    def plain(self) -> set[str]:
        """Those of them that hold plaintext, which somebody wrote over the ciphertext."""
        return {key for key in self.ours if is_plaintext(self.data[key])}

    @property
    def removed(self) -> set[str]:
        """Data keys to remove."""
        replaced = self.ours - self.values.keys() if self.spec.behavior is Behavior.REPLACE else set()
        return (replaced | self.spec.absent_keys) & self.data.keys()

    @cached_property
    def exposing_annotations(self) -> list[str]:
        """Annotations that hold plaintext of data keys that are sealed, or will be; they are removed."""
        sealed_keys = self.ours | self.values.keys()
        return exposing_annotations(self.existing or {}, sealed_keys, self.values.values())


def awaited(outcomes: Iterable[Outcome]) -> str | None:
    """Return a warning of what outcomes of check mode await; None if that is nothing."""
    names = ", ".join(sorted({name for outcome in outcomes for name in outcome.awaits}))
    meaning = "Check mode assumes that they would be created before; a run fails if they are not."
    return f"Not there yet: {names}. {meaning}" if names else None


def make_draft(spec: SecretSpec, existing: Object | None) -> Draft:
    """Compare the Secret as wanted with the Secret as found, as far as possible without Vault.

    Raises:
        SealedDataError: the Secret, or a data key, was not sealed here, and neither ``force`` nor ``adopt`` is given;
            or its manifest is damaged; or there is none to adopt; or who alone reads its type would get ciphertext.
    """
    if existing is None:
        if spec.adopt and not spec.values:
            raise SealedDataError(
                "there is no such Secret to adopt", place=spec.place, remedy="check name and namespace"
            )
        return Draft(spec, None, None, spec.values)
    if existing.get("type") == types.SERVICE_ACCOUNT_TOKEN:
        raise SealedDataError("Kubernetes itself fills this Secret", place=spec.place, remedy="choose another name")
    try:
        manifest = manifest_of(existing)
    except SealedDataError:
        if not spec.force:
            raise
        manifest = None
    draft = Draft(spec, existing, manifest, spec.values)
    if not (spec.force or spec.adopt):
        _refuse_foreign(draft)
    if spec.adopt:
        draft = Draft(spec, existing, manifest, {**_plaintexts(draft), **spec.values})
    if spec.state is State.PRESENT and (problem := types.refusal(draft.type, draft.values.keys())):
        raise SealedDataError(problem, place=spec.place)
    return draft


def _refuse_foreign(draft: Draft) -> None:
    spec = draft.spec
    deleted = draft.data.keys() if spec.state is State.ABSENT else set()
    foreign = sorted((draft.data.keys() & (spec.values.keys() | deleted)) - draft.ours)
    if draft.manifest and not foreign:
        return
    verb = "delete" if spec.state is State.ABSENT else "take over"
    what = f"data keys {', '.join(foreign)} were" if draft.manifest else "the Secret was"
    adopt = "" if spec.state is State.ABSENT else ", or adopt to seal what it holds"
    raise SealedDataError(f"{what} not sealed here", place=spec.place, remedy=f"set force to {verb}{adopt}")


def _plaintexts(draft: Draft) -> dict[str, bytes]:
    """Return the existing plaintext; ciphertext without a digest, as of an older tool, does not count."""
    candidates = draft.data.keys() - (draft.ours - draft.plain) - draft.spec.absent_keys
    values = {key: base64.b64decode(text) for key, text in draft.data.items() if key in candidates}
    return {key: raw for key, raw in values.items() if key_version(raw.decode("latin-1")) is None}


@dataclass(frozen=True)
class Plan:
    """What is to be done to one Secret.

    Attributes:
        draft: the Secret as wanted and as found.
        manifest: what the manifest will be, apart from what is sealed again.
        sealing: data keys whose values are to be sealed.
        digests: Transit HMAC of each value.
        outcome: what is to be done.
    """

    draft: Draft
    manifest: Manifest | None
    sealing: tuple[str, ...]
    digests: Mapping[str, str]
    outcome: Outcome

    @property
    def kept_versions(self) -> dict[str, int]:
        """Versions of the Transit key of the given values that stay as they are, by data key."""
        unchanged = self.draft.ours & self.draft.values.keys() - set(self.sealing) if self.manifest else ()
        versions = {key: encoded_version(self.draft.data[key]) for key in unchanged}
        return {key: version for key, version in versions.items() if version}


def make_plan(draft: Draft, scope: Scope | None, digests: Mapping[str, str], unreadable: Collection[str] = ()) -> Plan:
    """Decide what is to be done.

    Args:
        draft: the Secret as wanted and as found.
        scope: the scope to seal in; None if the manifest stays as it is.
        digests: Transit HMAC of each of its values, by data key.
        unreadable: data keys that are sealed anew although their values are the same.

    Raises:
        SealedDataError: the Secret is sealed with another key or in another scope, and not all values are given.
        ConfigError: the Secret is immutable, of another type, or gone but for a copy, and ``recreate`` is not given.
    """
    spec, existing = draft.spec, draft.existing
    if spec.state is State.ABSENT:
        return Plan(draft, None, (), {}, _deletion(draft))
    base = _base(draft, scope)
    data, removed_keys = draft.data, draft.removed
    sealing = [key for key in draft.values if key in unreadable or not _is_sealed(draft, base, key, digests[key])]
    metadata = _metadata_changes(spec, existing, draft.exposing_annotations)
    lost = bool(being_deleted(existing) or LEFT in (existing or {}))
    changed = bool(sealing or removed_keys or metadata or base is not draft.manifest or draft.corrected or lost)
    if existing is None:
        action = Action.CREATED if draft.values else Action.UNCHANGED
    elif not changed:
        action = Action.UNCHANGED
    else:
        action = Action.RECREATED if _needs_recreation(draft, bool(sealing or removed_keys)) else Action.UPDATED
    outcome = Outcome(
        spec.namespace,
        spec.name,
        action,
        base.transit_key if base else None,
        base.scope if base else None,
        added=tuple(key for key in sealing if key not in data),
        updated=tuple(key for key in sealing if key in data),
        removed=tuple(sorted(removed_keys)),
        adopted=tuple(key for key in sealing if key not in spec.values),
        metadata=metadata,
        plain=tuple(sorted(draft.plain - draft.values.keys() - removed_keys)),
        altered=tuple(key for key in sealing if key in draft.altered),
        unproven=tuple(sorted(draft.altered - draft.values.keys() - removed_keys)),
        corrected=_correction(draft, base),
        breaks=types.warning(draft.type, (draft.ours - draft.plain - removed_keys) | draft.values.keys()),
    )
    return Plan(draft, base, tuple(sealing), digests, outcome)


def _deletion(draft: Draft) -> Outcome:
    spec, existing = draft.spec, draft.existing
    finalizers = finalizers_of(existing)
    if existing is None or being_deleted(existing):
        return Outcome(spec.namespace, spec.name, Action.UNCHANGED, finalizers=finalizers)
    action = Action.DELETING if finalizers else Action.DELETED
    return Outcome(spec.namespace, spec.name, action, removed=tuple(sorted(draft.data)), finalizers=finalizers)


def finalizers_of(secret: Object | None) -> tuple[str, ...]:
    """Return what keeps a Secret after it was deleted, until who put it there takes it away.

    Source: https://kubernetes.io/docs/concepts/overview/working-with-objects/finalizers/
    """
    return tuple(((secret or {}).get("metadata") or {}).get("finalizers") or ())


def being_deleted(secret: Object | None) -> str | None:
    """Say since when a Secret is being deleted, and what keeps it; None if it is not."""
    since = ((secret or {}).get("metadata") or {}).get("deletionTimestamp")
    names = ", ".join(finalizers_of(secret)) or "none"
    return f"it is being deleted since {since}; finalizers that keep it: {names}" if since else None


def _base(draft: Draft, scope: Scope | None) -> Manifest | None:
    """Return the manifest to start from; one without digests if all values have to be sealed again."""
    spec, manifest = draft.spec, draft.manifest
    if scope is None or spec.transit_key is None:
        return manifest
    fresh = Manifest(spec.transit_key, scope, spec.digest_key_name, place=spec.place)
    if manifest is None:
        return fresh
    same = (manifest.transit_key, manifest.scope, manifest.digest_key) == (fresh.transit_key, scope, fresh.digest_key)
    is_copy = not manifest.is_of(spec.place)
    if same and not is_copy:
        return manifest
    if stale := sorted(draft.ours - draft.values.keys() - draft.removed):
        raise SealedDataError(
            f"data keys {', '.join(stale)} are sealed with Transit key {manifest.transit_key}, scope {manifest.scope},"
            f" digests by {manifest.digest_key}{f', for {manifest.place}' if is_copy else ''}",
            place=spec.place,
            remedy="give their values too, to seal all again, or keep these",
        )
    return fresh


def _correction(draft: Draft, base: Manifest | None) -> str | None:
    if draft.corrected:
        return "its manifest named another Transit key or scope than that of its values"
    before = draft.manifest.scope if draft.manifest else None
    if base and before and base.scope is not before and not (draft.spec.scope or draft.proven):
        return f"nothing proves its scope {before}, so it is sealed in scope {base.scope}; set scope for another"
    return None


def _is_sealed(draft: Draft, base: Manifest | None, key: str, digest: str) -> bool:
    """Whether a value exists already, and is as it was sealed, of the same plaintext."""
    return base is not None and base.digests.get(key) == digest and key in draft.proven


def _metadata_changes(spec: SecretSpec, existing: Object | None, exposing: Collection[str]) -> tuple[str, ...]:
    metadata = (existing or {}).get("metadata") or {}
    labels, annotations = metadata.get("labels") or {}, metadata.get("annotations") or {}
    changes = {
        "labels": existing is not None and bool({SEALED_LABEL: "true", **spec.labels}.items() - labels.items()),
        "annotations": bool(exposing or spec.annotations.items() - annotations.items()),
        "type": existing is not None and spec.type is not None and spec.type != existing.get("type", "Opaque"),
        "immutable": spec.immutable is not None and spec.immutable != bool((existing or {}).get("immutable")),
    }
    if existing is None:
        changes["labels"] = bool(spec.labels)
        changes["type"] = spec.type not in (None, "Opaque")
    return tuple(name for name, changed in changes.items() if changed)


def _needs_recreation(draft: Draft, data_changes: bool) -> bool:
    """Whether Kubernetes does not allow the change.

    Raises:
        ConfigError: it does not, or only a copy is left of the Secret, and ``recreate`` is not given.
    """
    spec, existing = draft.spec, draft.existing or {}
    if LEFT in existing:
        if not spec.recreate:  # whoever may write Secrets can write what looks like such a copy
            copy = existing[LEFT]["metadata"]["name"]
            raise ConfigError(
                f"it is gone, and its copy {copy} is there, as a broken-off recreate leaves it",
                place=spec.place,
                remedy="set recreate to make it of the copy, or delete the copy",
            )
        return True  # there is nothing that Kubernetes could refuse to change
    reasons = []
    if existing.get("immutable") and (data_changes or draft.manifest is None or spec.immutable is False):
        reasons.append("the Secret is immutable")
    if spec.type is not None and spec.type != existing.get("type", "Opaque"):
        reasons.append(f"its type is {existing.get('type', 'Opaque')}, and a type cannot change")
    remedy = "set recreate to delete the Secret and create it again"
    if deletion := being_deleted(existing):
        reasons = [deletion]
        remedy = "run again when it is gone, or set recreate to wait for that and create it again"
    if reasons and not spec.recreate:
        raise ConfigError(" and ".join(reasons), place=spec.place, remedy=remedy)
    return bool(reasons)


def secret_of(plan: Plan, ciphertexts: Mapping[str, str], manifest: Manifest | None) -> Object:
    """Return the Secret as it will be.

    Args:
        plan: what is to be done; not a deletion.
        ciphertexts: of the data keys that were to be sealed.
        manifest: as `manifest_after` returns it, with proofs of these.

    Raises:
        ConfigError: it is too large for Kubernetes.
    """
    spec, existing, outcome = plan.draft.spec, plan.draft.existing or {}, plan.outcome
    metadata = dict(existing.get("metadata") or {"namespace": spec.namespace, "name": spec.name})
    metadata.pop("managedFields", None)  # Kubernetes keeps the existing ones
    metadata["labels"] = {**(metadata.get("labels") or {}), **spec.labels, SEALED_LABEL: "true"}
    existing_annotations = (metadata.get("annotations") or {}).items()
    exposing = plan.draft.exposing_annotations
    annotations = {**{name: text for name, text in existing_annotations if name not in exposing}, **spec.annotations}
    if annotations or "annotations" in metadata:
        metadata["annotations"] = annotations
    if outcome.action is Action.RECREATED:
        for name in OF_THE_SERVER:
            metadata.pop(name, None)
    data = {key: text for key, text in plan.draft.data.items() if key not in outcome.removed}
    data |= {key: encode(text.encode()) for key, text in ciphertexts.items()}
    if manifest:
        data[MANIFEST_KEY] = encode(manifest.dump())
    sizes = {key: len(base64.b64decode(text)) for key, text in data.items()}
    if sum(sizes.values()) > SECRET_BYTES:
        raise ConfigError(size_problem(sizes), place=spec.place)
    secret: Object = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": data}
    secret["type"] = spec.type or existing.get("type") or "Opaque"
    immutable = existing.get("immutable") if spec.immutable is None else spec.immutable
    return {**secret, "immutable": True} if immutable else secret


def manifest_after(plan: Plan, ciphertexts: Mapping[str, str]) -> Manifest | None:
    """Return what the manifest will be, without proofs of what was sealed now; None if there is none.

    Args:
        plan: what is to be done.
        ciphertexts: of the data keys that were to be sealed.
    """
    base = plan.manifest
    if base is None:
        return None
    removed = {*plan.outcome.removed, *((base.digests.keys() | base.proofs.keys()) - plan.draft.data.keys())}
    outdated = removed | ciphertexts.keys()
    oldest = _without(base.oldest_versions, outdated)
    for key in ciphertexts:
        same = base.digests.get(key) == plan.digests[key]
        if same and (version := oldest_version(base, key, plan.draft.data.get(key, ""))):
            oldest[key] = version
    return replace(
        base,
        digests={**_without(base.digests, removed), **{key: plan.digests[key] for key in ciphertexts}},
        checksums={**_without(base.checksums, removed), **{key: checksum(text) for key, text in ciphertexts.items()}},
        oldest_versions=oldest,
        proofs=_without(base.proofs, outdated),
        sealed_checksums=_without(base.sealed_checksums, outdated),
        rewrap_proofs=_without(base.rewrap_proofs, outdated),
    )


def _without(entries: Mapping[str, T], keys: Collection[str]) -> dict[str, T]:
    return {key: text for key, text in entries.items() if key not in keys}
