"""Sealing: encrypt values with Vault's Transit engine and write them to Secrets, only if they changed.

Source: https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, TypeVar

from ..errors import (
    ConfigError,
    ConflictError,
    PermissionDenied,
    SealingFailed,
    SecretManagerError,
    SecretNotFound,
    TransitKeyNotFound,
    VaultError,
)
from ..sealed import (
    DIGEST_SUFFIX,
    Manifest,
    Place,
    Scope,
    SealedValue,
    key_version,
    rewrap_key,
    sealed_values,
    values_digest,
)
from ..servers.vault import TransitItem, VaultClient, batched_by_key
from .plan import Action, Draft, Outcome, Plan, make_draft, make_plan, manifest_after, secret_of
from .spec import SecretSpec, State
from .stores import Change, Store

if TYPE_CHECKING:
    from .manifestfile import ManifestFile

WRITE_ATTEMPTS = 5
"""How often a Secret is read and written again because another writer changed it in between."""

T = TypeVar("T")
R = TypeVar("R")


@dataclass(frozen=True)
class _Write:
    """What was sealed for one Secret that has to be written: the outcome, and its ciphertexts by data key."""

    outcome: Outcome
    ciphertexts: Mapping[str, str]


@dataclass
class _Attempt:
    """One attempt to seal several Secrets, each by its place.

    Attributes:
        outcomes: of the Secrets that were written, or need not be.
        writes: what was to be written.
        errors: why writing failed.
    """

    outcomes: dict[str, Outcome] = field(default_factory=dict)
    writes: dict[str, _Write] = field(default_factory=dict)
    errors: Mapping[str, SecretManagerError] = field(default_factory=dict)

    @property
    def conflicts(self) -> set[str]:
        """The Secrets that are not as they were found, so that it is worth reading them again."""
        return {place for place, error in self.errors.items() if self._is_conflict(place, error)}

    def _is_conflict(self, place: str, error: SecretManagerError) -> bool:
        deleted = isinstance(error, SecretNotFound) and self.writes[place].outcome.action is Action.UPDATED
        return deleted or isinstance(error, ConflictError)


class Sealer:
    """Seals Secrets.

    Args:
        vault: client whose token may ``transit/encrypt/KEY`` and ``transit/hmac/DIGEST_KEY``.
        store: where the Secrets are kept.
        source: ciphertexts to use instead of encrypting, by place, as those of a manifest file that is to be applied.
    """

    def __init__(self, vault: VaultClient, store: Store, source: Mapping[Place, SealedValue] | None = None) -> None:
        self._vault = vault
        self._store = store
        self._source = source or {}
        self._derived: dict[str, bool | None] = {}
        self._check = False
        self._assumes = False
        self._missing: set[str] = set()

    def seal(
        self,
        specs: Sequence[SecretSpec],
        *,
        check: bool = False,
        rehearsal: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Outcome]:
        """Seal the values that are new or changed; the others are left alone.

        Everything is validated before the first write. Each Secret is written in one request, whole or not at all, and
        only if it is still as it was read; otherwise it is read again and the change is applied to that.

        Args:
            specs: the Secrets.
            check: write nothing, and return what would be done. A Transit key or a namespace that does not exist is not
                an error then: something may create it before the run.
            rehearsal: as ``check``, but all is an error that a run fails for.
            progress: called after each Secret that was written, with how many were and will be.

        Returns:
            What was done, in the order given.

        Raises:
            SealedDataError: a Secret or data key exists but was not sealed here, and neither ``force`` nor ``adopt`` is
                given; or a manifest is damaged.
            ConfigError: scope and Transit key do not fit, or Kubernetes does not allow the change.
            ConflictError: others kept writing a Secret in between.
            SealingFailed: several of these at once.
            VaultError, KubernetesError: a server refused, or is unreachable.
        """
        check = check or rehearsal
        self._check, self._assumes, self._missing, self._derived = check, check and not rehearsal, set(), {}
        outcomes: dict[str, Outcome] = {}
        writes: dict[str, _Write] = {}
        pending = list(specs)
        for number in range(1, WRITE_ATTEMPTS + 1):
            if number > 1:
                time.sleep(random.uniform(0, 0.05 * number))  # noqa: S311 - no secret
            try:
                attempt = self._attempt(pending, writes, progress)
            except SecretManagerError as error:
                if check or not outcomes:
                    raise
                raise SealingFailed([error], _in_order(specs, outcomes)) from error
            outcomes |= attempt.outcomes
            writes |= attempt.writes
            if number == WRITE_ATTEMPTS or len(attempt.conflicts) < len(attempt.errors):
                _raise_if_any(list(attempt.errors.values()), [] if check else _in_order(specs, outcomes))
            # Not those of the conflicts alone: where the first try of a kind met one, nothing else was written.
            pending = [spec for spec in pending if spec.place not in outcomes]
            if not pending:
                break
        return _in_order(specs, outcomes)

    def _attempt(
        self,
        pending: Sequence[SecretSpec],
        writes_before: Mapping[str, _Write],
        progress: Callable[[int, int], None] | None,
    ) -> _Attempt:
        """Read, compare and write Secrets once."""
        existing = self._store.find(pending)
        drafts = self._corrected(
            self._proven(_for_each(pending, lambda spec: make_draft(spec, existing.get(spec.place))))
        )
        plans = self._plans(drafts)
        attempt = _Attempt()
        sealed = self._encrypt(plans)
        changing: list[tuple[Plan, Mapping[str, str], Manifest | None]] = []
        for plan, ciphertexts, manifest in zip(plans, sealed, self._manifests(plans, sealed), strict=True):
            plan, place = self._foreseen(plan), plan.draft.spec.place
            if plan.outcome.changed:
                changing.append((plan, ciphertexts, manifest))
                attempt.writes[place] = _Write(plan.outcome, ciphertexts)
            else:
                outcome = _outcome_of_unchanged(plan, writes_before.get(place))
                attempt.outcomes[place] = replace(outcome, digest=values_digest(plan.draft.existing))
        changes = _for_each(changing, lambda item: _change(*item))
        for change in changes:
            write = attempt.writes[change.place]
            outcome = replace(write.outcome, digest=values_digest(change.secret))
            attempt.writes[change.place] = replace(write, outcome=outcome)
        written_changes: list[Change] = []

        def on_written(change: Change) -> None:
            written_changes.append(change)
            if progress:
                progress(len(written_changes), len(changes))

        errors = self._store.write(changes, check=self._check, on_written=on_written)
        attempt.outcomes |= {change.place: attempt.writes[change.place].outcome for change in written_changes}
        if self._assumes:
            missing_namespaces = {
                change.place: change.namespace for change in changes if _lacks_namespace(change, errors)
            }
            attempt.outcomes |= {
                place: _awaiting(attempt.writes[place].outcome, f"namespace {missing_namespaces[place]}")
                for place in missing_namespaces
            }
            errors = {place: error for place, error in errors.items() if place not in missing_namespaces}
        attempt.errors = errors
        return attempt

    def _plans(self, drafts: Sequence[Draft]) -> list[Plan]:
        """Plan the changes of each Secret."""
        scopes = _for_each(drafts, self._scope)
        digests = self._digests(drafts)
        parts = list(zip(drafts, scopes, digests, strict=True))
        plans = _for_each(parts, lambda part: make_plan(*part))
        unreadable_by_plan = list(zip(parts, plans, self._unreadable(plans), strict=True))
        return _for_each(unreadable_by_plan, lambda item: make_plan(*item[0], item[2]) if item[2] else item[1])

    def _unreadable(self, plans: Sequence[Plan]) -> list[set[str]]:
        """Return of each Secret the data keys that would stay, with a version that Vault does not decrypt any more.

        A sealer can neither read the key nor decrypt, but it learns which versions Vault does not encrypt with: one
        request for each Transit key. Those below ``min_encryption_version`` are among them, and are sealed anew too.
        """
        kept_versions = [(plan.manifest.transit_key if plan.manifest else "", plan.kept_versions) for plan in plans]
        versions_by_key: dict[str, set[int]] = {}
        for name, versions in kept_versions:
            if versions:
                versions_by_key.setdefault(name, set()).update(versions.values())
        refused = {name: self._refused(name, versions) for name, versions in versions_by_key.items()}
        return [
            {key for key, version in versions.items() if version in refused[name]} for name, versions in kept_versions
        ]

    def _refused(self, transit_key: str, versions: set[int]) -> set[int]:
        try:
            return self._vault.refused_versions(transit_key, versions)
        except VaultError as error:
            if not (self._assumes and self._is_missing(transit_key, error)):
                raise
            return set()

    def _foreseen(self, plan: Plan) -> Plan:
        """Return a plan whose outcome names the Transit keys that do not exist yet."""
        spec = plan.draft.spec
        names = {spec.transit_key, spec.digest_key_name} & self._missing if plan.sealing else set()
        outcome = _awaiting(plan.outcome, *(f"Transit key {name}" for name in sorted(filter(None, names))))
        if spec.transit_key in names and spec.scope is None:
            outcome = replace(outcome, scope=None)
        return replace(plan, outcome=outcome)

    def _scope(self, draft: Draft) -> Scope | None:
        """Return the scope to seal in; None if the manifest stays as it is."""
        spec = draft.spec
        nothing_to_seal = not draft.values and (draft.manifest or draft.existing is None)
        if nothing_to_seal or spec.state is State.ABSENT or spec.transit_key is None:
            return None
        if spec.scope is not None:
            return spec.scope
        # Anybody who writes the Secret can change its manifest: only a proof says what was sealed.
        manifest = draft.manifest
        other_key = manifest is not None and manifest.transit_key != spec.transit_key
        before = manifest.scope if manifest else None
        if before and draft.proven and not other_key:
            return before
        derived = self._is_derived(spec.transit_key)
        if derived is None:
            return before or Scope.STRICT
        if derived:
            return Scope.NAMESPACE_WIDE if before is Scope.NAMESPACE_WIDE and draft.proven else Scope.STRICT
        if before not in (None, Scope.CLUSTER_WIDE) and other_key:
            raise ConfigError(
                f"the Secret is sealed in scope {before}, and Transit key {spec.transit_key} is not derived",
                place=spec.place,
                remedy="use a derived key, or give scope cluster-wide to let it decrypt anywhere",
            )
        return Scope.CLUSTER_WIDE

    def _digests(self, drafts: Sequence[Draft]) -> list[dict[str, str]]:
        """Have Vault make the digest of each value: one batch for each digest key."""

        def inputs() -> Iterator[tuple[str, tuple[int, str], bytes]]:
            for index, draft in enumerate(drafts):
                spec = draft.spec
                for key, value in draft.values.items():
                    yield spec.digest_key_name, (index, key), draft.place(key).hmac_input(value)

        digests: list[dict[str, str]] = [{} for _ in drafts]
        for (index, key), digest in batched_by_key(inputs(), self._hmac):
            digests[index][key] = digest
        self._keep_older(drafts, digests)
        return digests

    def _keep_older(self, drafts: Sequence[Draft], digests: Sequence[dict[str, str]]) -> None:
        """Keep the digests that an older version of the digest key made, if they are those of the given values.

        So a rotation of the digest key changes no digest of a value that is the same.
        """

        def older() -> Iterator[tuple[str, tuple[int, str, str], tuple[bytes, str]]]:
            for index, draft in enumerate(drafts):
                spec, manifest = draft.spec, draft.manifest
                if manifest is None or manifest.digest_key != spec.digest_key_name:
                    continue
                for key, newest in digests[index].items():
                    digest = manifest.digests.get(key, "")
                    if digest and key_version(digest) != key_version(newest):
                        signed = draft.place(key).hmac_input(draft.values[key])
                        yield spec.digest_key_name, (index, key, digest), (signed, digest)

        for (index, key, digest), same in batched_by_key(older(), self._are_hmacs):
            if same:
                digests[index][key] = digest

    def _proven(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Find out which values are as they were sealed: with the proof of a sealer, and of each rewrap since.

        So an older ciphertext, or that of another place, cannot pass as what was sealed, whoever wrote it there.
        """
        proven: list[set[str]] = [set() for _ in drafts]
        same_digest_key = [
            (index, draft, draft.manifest)
            for index, draft in enumerate(drafts)
            if draft.manifest and draft.manifest.digest_key == draft.spec.digest_key_name
        ]

        def proofs() -> Iterator[tuple[str, tuple[int, str], tuple[bytes, str]]]:
            for index, draft, manifest in same_digest_key:
                for key in draft.intact & manifest.provable:
                    pair = (manifest.proof_input(draft.place(key)), manifest.proofs[key])
                    yield manifest.digest_key, (index, key), pair

        def rewraps() -> Iterator[tuple[str, tuple[int, str], tuple[bytes, str]]]:
            for index, draft, manifest in same_digest_key:
                for key in proven[index] & manifest.sealed_checksums.keys():
                    pair = (manifest.rewrap_input(draft.place(key)), manifest.rewrap_proofs.get(key, ""))
                    yield rewrap_key(manifest.transit_key), (index, key), pair

        for (index, key), holds in batched_by_key(proofs(), self._are_hmacs):
            proven[index] |= {key} if holds else set()
        for (index, key), holds in batched_by_key(rewraps(), self._are_rewraps):
            proven[index] -= set() if holds else {key}
        return [replace(draft, proven=frozenset(keys)) for draft, keys in zip(drafts, proven, strict=True)]

    def _corrected(self, drafts: Sequence[Draft]) -> list[Draft]:
        """Put right the manifests whose key or scope somebody changed, where that proves what was sealed."""
        corrected = list(drafts)
        alternatives = [
            (index, replace(draft, manifest=manifest, corrected=True))
            for index, draft in enumerate(drafts)
            if draft.manifest and draft.manifest.proofs and not draft.proven and draft.spec.transit_key
            for manifest in _others(draft.manifest, draft.spec)
        ]
        proven = self._proven([draft for _, draft in alternatives])
        for (index, _), draft in zip(alternatives, proven, strict=True):
            if draft.proven:
                corrected[index] = draft
        return corrected

    def _are_hmacs(self, key: str, pairs: Sequence[tuple[bytes, str]]) -> list[bool]:
        try:
            return self._vault.are_hmacs(key, pairs)
        except VaultError as error:
            if not (self._assumes and _is_not_found(error)):
                raise
            return [False] * len(pairs)

    def _are_rewraps(self, key: str, pairs: Sequence[tuple[bytes, str]]) -> list[bool]:
        """Return which rewraps are proven: none if the key of such proofs does not exist, or may not be used."""
        try:
            return self._vault.are_hmacs(key, pairs)
        except VaultError as error:
            if not (_is_not_found(error) or isinstance(error, PermissionDenied)):
                raise
            return [False] * len(pairs)

    def _hmac(self, key: str, inputs: Sequence[bytes]) -> list[str]:
        try:
            return self._vault.hmac(key, inputs)
        except VaultError as error:
            if not (self._assumes and _is_not_found(error)):
                raise
            self._missing.add(key)
            return [""] * len(inputs)  # no value has this digest yet

    def _encrypt(self, plans: Sequence[Plan]) -> list[dict[str, str]]:
        """Have Vault encrypt what changed: one batch for each Transit key."""
        sealed: list[dict[str, str]] = [{} for _ in plans]

        def items() -> Iterator[tuple[str, tuple[int, str], TransitItem]]:
            for index, plan in enumerate(plans):
                if not plan.manifest or not plan.sealing:
                    continue
                name, scope = plan.manifest.transit_key, plan.manifest.scope
                self._require_fit(name, scope, plan.draft.spec.place)
                for key in plan.sealing:
                    place = plan.draft.place(key)
                    if place in self._source:
                        sealed[index][key] = _same_scope(self._source[place], place, scope).ciphertext
                    elif name in self._missing:
                        sealed[index][key] = ""  # not written
                    else:
                        item = TransitItem(plan.draft.values[key], place.context(scope), str(place))
                        yield name, (index, key), item

        for (index, key), ciphertext in batched_by_key(items(), self._vault.encrypt):
            sealed[index][key] = ciphertext
        return sealed

    def _manifests(self, plans: Sequence[Plan], sealed: Sequence[Mapping[str, str]]) -> list[Manifest | None]:
        """Return the manifest of each Secret as it will be: Vault makes the proofs of what was sealed, in one batch."""
        manifests = [manifest_after(plan, ciphertexts) for plan, ciphertexts in zip(plans, sealed, strict=True)]
        proofs: list[dict[str, str]] = [{} for _ in plans]

        def inputs() -> Iterator[tuple[str, tuple[int, str], bytes]]:
            for index, manifest in enumerate(manifests):
                if manifest:
                    places = {key: plans[index].draft.place(key) for key in sealed[index]}
                    yield from (
                        (manifest.digest_key, (index, key), manifest.proof_input(places[key])) for key in places
                    )

        for (index, key), proof in batched_by_key(inputs(), self._hmac):
            proofs[index][key] = proof
        return [
            replace(manifest, proofs={**manifest.proofs, **new_proofs}) if manifest else None
            for manifest, new_proofs in zip(manifests, proofs, strict=True)
        ]

    def _require_fit(self, transit_key: str, scope: Scope, place: str) -> None:
        derived = self._is_derived(transit_key)
        if derived is None:
            return
        if derived and scope is Scope.CLUSTER_WIDE:
            raise ConfigError(
                f"Transit key {transit_key} is derived, so what it seals is bound to a place, and not {scope}",
                place=place,
                remedy=f"use scope {Scope.STRICT} or {Scope.NAMESPACE_WIDE}, or another key",
            )
        if not derived and scope is not Scope.CLUSTER_WIDE:
            raise ConfigError(
                f"scope {scope} needs a derived Transit key, and {transit_key} is not: it would decrypt anywhere",
                place=place,
                remedy=f"use scope {Scope.CLUSTER_WIDE}, or a derived key",
            )

    def _is_derived(self, transit_key: str) -> bool | None:
        """Whether a Transit key is ``derived``; None in check mode if it does not exist yet.

        Vault ignores the context that a plain key is given, and the sealer's policy does not let it read the key. But
        only a derived key refuses to encrypt without a context.
        """
        if transit_key not in self._derived:
            try:
                self._vault.encrypt(transit_key, [TransitItem(b"")])
                self._derived[transit_key] = False
            except VaultError as error:
                if self._assumes and self._is_missing(transit_key, error):
                    self._missing.add(transit_key)
                    self._derived[transit_key] = None
                elif "context" in " ".join(error.errors):
                    self._derived[transit_key] = True
                else:
                    raise
        return self._derived[transit_key]

    def _is_missing(self, transit_key: str, error: VaultError) -> bool:
        """Whether Vault refused to encrypt because there is no such key, which it does not tell to everybody."""
        if not isinstance(error, PermissionDenied):
            return _is_not_found(error)
        try:
            self._vault.read_key(transit_key)
        except PermissionDenied:
            with suppress(VaultError):
                self._hmac(f"{transit_key}{DIGEST_SUFFIX}", [b""])
            return f"{transit_key}{DIGEST_SUFFIX}" in self._missing
        except VaultError as refusal:
            return _is_not_found(refusal)
        return False


def seal_into(
    vault: VaultClient,
    specs: Sequence[SecretSpec],
    *,
    file: ManifestFile | None = None,
    kubernetes: Store | None = None,
    check: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Outcome], bool]:
    """Seal into a manifest file, into Kubernetes, or into both with the same ciphertext.

    Args:
        vault: as of `Sealer`.
        specs: the Secrets.
        file: the manifest file, if any.
        kubernetes: the store of Kubernetes, if any.
        check: write nothing, say what would be done.
        progress: as of `Sealer.seal`, for Kubernetes.

    Returns:
        What was done in Kubernetes, or else in the file; and whether the file was, or would be, written.

    Raises:
        SecretManagerError: as of `Sealer.seal`.
    """
    outcomes: list[Outcome] = []
    file_changed = False
    if file and kubernetes and not check:
        _rehearse(vault, specs, file, kubernetes)
    if file:
        outcomes = Sealer(vault, file).seal(specs, check=check)
        file_changed = any(outcome.changed for outcome in outcomes)
    if kubernetes:
        source = file.sealed_values() if file else None
        try:
            outcomes = Sealer(vault, kubernetes, source).seal(specs, check=check, progress=progress)
        except SecretManagerError as error:
            if not (file and file_changed) or check:
                raise
            errors = error.errors if isinstance(error, SealingFailed) else [error]
            outcomes_before = error.outcomes if isinstance(error, SealingFailed) else []
            raise SealingFailed(errors, outcomes_before, file=str(file.path)) from error
    return outcomes, file_changed


def _rehearse(vault: VaultClient, specs: Sequence[SecretSpec], file: ManifestFile, kubernetes: Store) -> None:
    """Find out what Kubernetes would refuse before the file is written.

    Raises:
        SecretManagerError: as of `Sealer.seal`.
    """
    in_file, live = (Sealer(vault, store).seal(specs, rehearsal=True) for store in (file, kubernetes))
    for file_outcome, live_outcome in zip(in_file, live, strict=True):
        if (
            (live_outcome.added or live_outcome.updated)
            and file_outcome.scope
            and live_outcome.scope
            and file_outcome.scope is not live_outcome.scope
        ):
            raise _other_scope(f"{live_outcome.namespace}/{live_outcome.name}", file_outcome.scope, live_outcome.scope)


def _same_scope(value: SealedValue, place: Place, scope: Scope) -> SealedValue:
    if value.scope is not scope:
        raise _other_scope(str(place), value.scope, scope)
    return value


def _other_scope(place: str, in_file: Scope | None, live: Scope) -> ConfigError:
    return ConfigError(
        f"the manifest file has it in scope {in_file}, Kubernetes in scope {live}",
        place=place,
        remedy="give the scope that both are to have",
    )


def _is_not_found(error: VaultError) -> bool:
    """Whether there is no such Transit key, or no Transit engine at this path (404)."""
    return isinstance(error, TransitKeyNotFound) or error.status == 404


def _awaiting(outcome: Outcome, *names: str) -> Outcome:
    return replace(outcome, awaits=(*outcome.awaits, *names))


def _lacks_namespace(change: Change, errors: Mapping[str, SecretManagerError]) -> bool:
    """Whether Kubernetes refused a change because its namespace does not exist."""
    error = errors.get(change.place)
    return isinstance(error, SecretNotFound) and f'namespaces "{change.namespace}" not found' in error.message


def _change(plan: Plan, ciphertexts: Mapping[str, str], manifest: Manifest | None) -> Change:
    deleted = plan.outcome.action in (Action.DELETED, Action.DELETING)
    return Change(plan.outcome.action, plan.draft.existing, None if deleted else secret_of(plan, ciphertexts, manifest))


def _others(manifest: Manifest, spec: SecretSpec) -> Iterator[Manifest]:
    """Yield what else a manifest may have said before somebody changed its key or scope."""
    for scope in Scope:
        for transit_key in dict.fromkeys((spec.transit_key or "", manifest.transit_key)):
            digest_key = spec.digest_key_name
            yield replace(manifest, scope=scope, transit_key=transit_key, digest_key=digest_key, place=spec.place)


def _outcome_of_unchanged(plan: Plan, before: _Write | None) -> Outcome:
    """Return the outcome of a Secret that is as it should be.

    If an attempt before wrote it and the answer was lost, the Secret holds what was sealed then, and was changed.
    """
    if before is None:
        return plan.outcome
    ciphertexts = {key: value.ciphertext for key, value in sealed_values(plan.draft.existing or {}).items()}
    return before.outcome if before.ciphertexts.items() <= ciphertexts.items() else plan.outcome


def _for_each(items: Sequence[T], call: Callable[[T], R]) -> list[R]:
    """Call for each item; if several calls fail, report all of them.

    Raises:
        SecretManagerError: the error of the one call that failed.
        SealingFailed: several failed.
        VaultError: at once, since the other calls would fail in the same way.
    """
    results: list[R] = []
    errors: list[SecretManagerError] = []
    for item in items:
        try:
            results.append(call(item))
        except VaultError:
            raise
        except SecretManagerError as error:
            errors.append(error)
    _raise_if_any(errors)
    return results


def _in_order(specs: Sequence[SecretSpec], outcomes: Mapping[str, Outcome]) -> list[Outcome]:
    """Return the outcomes there are, in the order of their specs; requests end in any order."""
    return [outcomes[spec.place] for spec in specs if spec.place in outcomes]


def _raise_if_any(errors: Sequence[SecretManagerError], outcomes: Sequence[Outcome] = ()) -> None:
    if len(errors) == 1 and not outcomes:
        raise errors[0]
    if errors:
        raise SealingFailed(errors, outcomes)
