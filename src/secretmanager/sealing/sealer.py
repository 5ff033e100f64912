"""Sealing: values go through Vault's Transit engine into Secrets, and only where they changed.

Source: https://developer.hashicorp.com/vault/api-docs/secret/transit
"""

from __future__ import annotations

import random
import time
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, TypeVar

from ..errors import ConfigError, ConflictError, SecretManagerError, SecretNotFound, VaultError
from ..sealed import Place, Scope, SealedValue, sealed_values
from ..servers.vault import TransitItem, VaultClient
from .plan import Action, Draft, Outcome, Plan, draft, plan, secret_of
from .spec import State, Wanted
from .stores import Change, Store

if TYPE_CHECKING:
    from .manifestfile import ManifestFile

WRITE_ATTEMPTS = 5
"""How often a Secret is read and written anew because another writer came between."""

SHOWN = 10
"""Errors that one message tells in full."""

T = TypeVar("T")
R = TypeVar("R")


class SealingFailed(SecretManagerError):
    """Some of several Secrets could not be sealed.

    Attributes:
        errors: why, of each.
        outcomes: what was done to others.
    """

    def __init__(self, errors: Sequence[SecretManagerError], outcomes: Sequence[Outcome] = ()) -> None:
        more = f"; and {len(errors) - SHOWN} more" if len(errors) > SHOWN else ""
        written = sum(outcome.changed for outcome in outcomes)
        told = "; ".join(str(error) for error in errors[:SHOWN])
        super().__init__(f"not all could be sealed; {written} Secrets were written: {told}{more}")
        self.errors = tuple(errors)
        self.outcomes = tuple(outcomes)


class Sealer:
    """Seals Secrets.

    Args:
        vault: client whose token may ``transit/encrypt/KEY`` and ``transit/hmac/DIGEST_KEY``.
        store: where the Secrets are kept.
        source: ciphertexts to take instead of encrypting, by place, as of a manifest file that is to be applied.
    """

    def __init__(self, vault: VaultClient, store: Store, source: Mapping[Place, SealedValue] | None = None) -> None:
        self._vault = vault
        self._store = store
        self._source = source or {}
        self._derived: dict[str, bool] = {}

    def seal(
        self,
        wanted: Sequence[Wanted],
        *,
        check: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> list[Outcome]:
        """Seal the values that are new or changed; what is the same is left alone.

        All is checked before anything is written. Each Secret is written in one request, whole or not at all, and only
        if it is still as it was read; otherwise it is read again and the change is made to that.

        Args:
            wanted: the Secrets.
            check: write nothing, say what would be done.
            progress: called after each Secret that was written, with how many were and will be.

        Returns:
            What was done, in the order given.

        Raises:
            SealedDataError: a Secret or data key is there but not sealed here, and neither ``force`` nor ``adopt`` is
                given; or a manifest is damaged.
            ConfigError: scope and Transit key do not fit, or Kubernetes does not allow the change.
            ConflictError: others kept writing a Secret in between.
            SealingFailed: several of these at once.
            VaultError, KubernetesError: a server refused or is out of reach.
        """
        outcomes: dict[str, Outcome] = {}
        tried: dict[str, tuple[Outcome, Mapping[str, str]]] = {}
        pending = list(wanted)
        for attempt in range(1, WRITE_ATTEMPTS + 1):
            if attempt > 1:
                time.sleep(random.uniform(0, 0.05 * attempt))  # noqa: S311 - no secret
            try:
                errors = self._round(pending, outcomes, tried, check=check, progress=progress)
            except SecretManagerError as error:
                if check or not outcomes:
                    raise
                raise SealingFailed([error], list(outcomes.values())) from error
            conflicts = {place for place, error in errors.items() if _is_conflict(error, tried, place)}
            if attempt == WRITE_ATTEMPTS or len(conflicts) < len(errors):
                _raise(list(errors.values()), () if check else tuple(outcomes.values()))
            pending = [item for item in pending if item.place in conflicts]
            if not pending:
                break
        return [outcomes[item.place] for item in wanted]

    def _round(
        self,
        pending: Sequence[Wanted],
        outcomes: dict[str, Outcome],
        tried: dict[str, tuple[Outcome, Mapping[str, str]]],
        *,
        check: bool,
        progress: Callable[[int, int], None] | None,
    ) -> Mapping[str, SecretManagerError]:
        """Read, compare and write Secrets once; fill outcomes, give what went wrong in writing, by place."""
        found = self._store.find(pending)
        drafts = _each(lambda item: draft(item, found.get(item.place)), pending)
        scopes = _each(self._scope, drafts)
        digests = self._digests(drafts)
        plans = _each(lambda each: plan(*each), list(zip(drafts, scopes, digests, strict=True)))
        sealed = self._encrypt(plans)
        changing = [(made, texts) for made, texts in zip(plans, sealed, strict=True) if made.outcome.changed]
        changes = _each(lambda each: _change(*each), changing)
        for made in plans:
            place = made.draft.wanted.place
            if made.outcome.changed:
                continue
            outcome, texts = tried.get(place, (made.outcome, {}))
            # The answer to our own write was lost, if what we sealed is there.
            ours = {key: value.ciphertext for key, value in sealed_values(made.draft.found or {}).items()}
            outcomes[place] = outcome if texts.items() <= ours.items() else made.outcome
        tried.update({made.draft.wanted.place: (made.outcome, texts) for made, texts in changing})
        written: list[Change] = []

        def done(change: Change) -> None:
            written.append(change)
            if progress:
                progress(len(written), len(changes))

        errors = self._store.write(changes, check=check, done=done)
        for change in written:
            outcomes[change.place] = tried[change.place][0]
        return errors

    def _scope(self, made: Draft) -> Scope | None:
        """Decide on the scope to seal in; None where the manifest stays as it is."""
        wanted = made.wanted
        nothing = not made.values and (made.manifest or made.found is None)
        if nothing or wanted.state is State.ABSENT or wanted.transit_key is None:
            return None
        if wanted.scope is not None:
            return wanted.scope
        before = made.manifest.scope if made.manifest else None
        if made.manifest and before and made.manifest.transit_key == wanted.transit_key:
            return before
        if self._is_derived(wanted.transit_key):
            return Scope.NAMESPACE_WIDE if before is Scope.NAMESPACE_WIDE else Scope.STRICT
        if before not in (None, Scope.CLUSTER_WIDE):
            raise ConfigError(
                f"the Secret is sealed in scope {before}, and Transit key {wanted.transit_key} is not derived",
                place=wanted.place,
                remedy="use a derived key, or give scope cluster-wide to let it decrypt anywhere",
            )
        return Scope.CLUSTER_WIDE

    def _digests(self, drafts: Sequence[Draft]) -> list[dict[str, str]]:
        """Have Vault make the digest of each value: one batch for each digest key."""
        batches: dict[str, list[tuple[int, str, bytes]]] = defaultdict(list)
        for index, made in enumerate(drafts):
            wanted = made.wanted
            for key, value in made.values.items():
                signed = Place(wanted.namespace, wanted.name, key).hmac_input(value)
                batches[wanted.digests_by].append((index, key, signed))
        digests: list[dict[str, str]] = [{} for _ in drafts]
        for digest_key, batch in batches.items():
            made_digests = self._vault.hmac(digest_key, [signed for _, _, signed in batch])
            for (index, key, _), digest in zip(batch, made_digests, strict=True):
                digests[index][key] = digest
        return digests

    def _encrypt(self, plans: Sequence[Plan]) -> list[dict[str, str]]:
        """Have Vault encrypt what changed: one batch for each Transit key."""
        sealed: list[dict[str, str]] = [{} for _ in plans]
        batches: dict[tuple[str, bool], list[tuple[int, str, TransitItem]]] = defaultdict(list)
        for index, made in enumerate(plans):
            if not made.manifest or not made.sealing:
                continue
            name, scope = made.manifest.transit_key, made.manifest.scope
            self._require_fit(name, scope, made.draft.wanted.place)
            for key in made.sealing:
                place = made.place(key)
                if place in self._source:
                    sealed[index][key] = _same_scope(self._source[place], place, scope).ciphertext
                    continue
                item = TransitItem(made.draft.values[key], place.context(scope), str(place))
                batches[name, scope is Scope.CLUSTER_WIDE].append((index, key, item))
        for (name, _), batch in batches.items():
            ciphertexts = self._vault.encrypt(name, [item for _, _, item in batch])
            for (index, key, _), ciphertext in zip(batch, ciphertexts, strict=True):
                sealed[index][key] = ciphertext
        return sealed

    def _require_fit(self, transit_key: str, scope: Scope, place: str) -> None:
        derived = self._is_derived(transit_key)
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

    def _is_derived(self, transit_key: str) -> bool:
        """Whether a Transit key is ``derived``.

        Vault ignores the context that a plain key is given, and the sealer's policy does not let it read the key. But
        only a derived key refuses to encrypt without a context.
        """
        if transit_key not in self._derived:
            try:
                self._vault.encrypt(transit_key, [TransitItem(b"")])
                self._derived[transit_key] = False
            except VaultError as error:
                if "context" not in " ".join(error.errors):
                    raise
                self._derived[transit_key] = True
        return self._derived[transit_key]


def seal_into(
    vault: VaultClient,
    wanted: Sequence[Wanted],
    *,
    file: ManifestFile | None = None,
    kubernetes: Store | None = None,
    check: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[list[Outcome], bool]:
    """Seal into a manifest file, into Kubernetes, or into both with the same ciphertext.

    Args:
        vault: as of `Sealer`.
        wanted: the Secrets.
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
    if file:
        outcomes = Sealer(vault, file).seal(wanted, check=check)
        file_changed = any(outcome.changed for outcome in outcomes)
    if kubernetes:
        source = file.sealed_values() if file else None
        outcomes = Sealer(vault, kubernetes, source).seal(wanted, check=check, progress=progress)
    return outcomes, file_changed


def _same_scope(value: SealedValue, place: Place, scope: Scope) -> SealedValue:
    if value.scope is not scope:
        raise ConfigError(
            f"the manifest file has it in scope {value.scope}, Kubernetes in scope {scope}",
            place=str(place),
            remedy="give the scope that both are to have",
        )
    return value


def _change(made: Plan, ciphertexts: Mapping[str, str]) -> Change:
    deleted = made.outcome.action is Action.DELETED
    return Change(made.outcome.action, made.draft.found, None if deleted else secret_of(made, ciphertexts))


def _is_conflict(error: SecretManagerError, tried: Mapping[str, tuple[Outcome, Mapping[str, str]]], place: str) -> bool:
    """Whether a Secret is not as it was found, so that it is worth reading it again."""
    gone = isinstance(error, SecretNotFound) and tried[place][0].action is Action.UPDATED
    return gone or isinstance(error, ConflictError)


def _each(call: Callable[[T], R], items: Sequence[T]) -> list[R]:
    """Call for each item; where some fail, tell of all that do.

    Raises:
        SecretManagerError: of the one that failed.
        SealingFailed: several failed.
    """
    results: list[R] = []
    errors: list[SecretManagerError] = []
    for item in items:
        try:
            results.append(call(item))
        except VaultError:
            raise  # it would fail for others as well
        except SecretManagerError as error:
            errors.append(error)
    _raise(errors)
    return results


def _raise(errors: Sequence[SecretManagerError], outcomes: Sequence[Outcome] = ()) -> None:
    if len(errors) == 1 and not outcomes:
        raise errors[0]
    if errors:
        raise SealingFailed(errors, outcomes)
