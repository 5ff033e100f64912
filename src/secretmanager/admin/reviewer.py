"""The token with which Vault reviews those of workloads: one that ends is issued, and renewed well before its end.

Sources: https://developer.hashicorp.com/vault/api-docs/auth/kubernetes#configure-method and
https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/
"""

from __future__ import annotations

import base64
import json
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta

from ..errors import ConfigError, LoginDenied
from ..servers.kubernetes import KubernetesClient
from ..servers.vault import VaultClient
from .connection import Vault
from .definitions import REVIEWER_ROLE, config_path

ANNOTATION = "kubevault.io/token-renew-after"
"""Where the service account notes when half of the life of Vault's token is over; not there if it does not end."""

ASKS_ANNOTATION = "kubevault.io/token-review-api"
"""Where it notes which API Vault asks: the address and the authority, as a JSON object with Vault's names of them."""

LEAST = 600
"""Seconds for which Kubernetes issues tokens at least."""

_TIME = "%Y-%m-%dT%H:%M:%SZ"
"""Form of a time in UTC, in which the later one of two is the greater text."""


@dataclass(frozen=True)
class IssuedToken:
    """A token of a service account.

    Attributes:
        token: the token.
        lifetime: for how long it is valid, in seconds.
        renew_after: when half of that is over, in UTC.
    """

    token: str = field(repr=False)
    lifetime: int
    renew_after: str


@dataclass(frozen=True)
class TokenReviewer:
    """As whom Vault asks Kubernetes, and where it is configured to.

    Attributes:
        namespace: namespace of its service account.
        service_account: name of its service account.
        auth_mount: mount of Vault's Kubernetes auth method.
        audience: audience of tokens for Vault.
    """

    namespace: str = "kube-system"
    service_account: str = "vault-auth"
    auth_mount: str = "kubernetes"
    audience: str = "vault"


@dataclass(frozen=True)
class Renewal:
    """What was done.

    Attributes:
        renewed: whether Vault has another token; with check, whether it would get one.
        renew_after: when it is to be renewed next, in UTC; empty with check, if it is to be now.
    """

    renewed: bool
    renew_after: str


def issue(
    kubernetes: KubernetesClient, namespace: str, service_account: str, audience: str | None, lifetime: int
) -> IssuedToken:
    """Have Kubernetes issue a token, which may end earlier than was asked for.

    Args:
        kubernetes: client that may create tokens of the service account.
        namespace: namespace of the service account.
        service_account: its name.
        audience: audience of the token; None for the Kubernetes API.
        lifetime: for how long, in seconds; at least `LEAST`.

    Raises:
        ConfigError: the lifetime is shorter than Kubernetes allows.
        SecretNotFound: there is no such service account.
        Forbidden: RBAC lacks ``create`` on ``serviceaccounts/token``.
    """
    if lifetime < LEAST:
        raise ConfigError(f"lifetime: found {lifetime}s; allowed is 600s (10m) or more, as Kubernetes has it")
    token = kubernetes.create_token(namespace, service_account, audience, lifetime)
    payload = token.split(".")[1]
    claims = json.loads(base64.urlsafe_b64decode(payload + "=" * (-len(payload) % 4)))
    issued, end = claims["iat"], claims["exp"]
    half = datetime.fromtimestamp((issued + end) // 2, UTC)
    return IssuedToken(token, end - issued, half.strftime(_TIME))


def renew(
    vault: VaultClient,
    kubernetes: KubernetesClient,
    reviewer: TokenReviewer,
    lifetime: int,
    *,
    force: bool = False,
    check: bool = False,
) -> Renewal:
    """Give Vault another token to review with, once half of the life of its token is over.

    Where Vault finds Kubernetes, and whom it trusts, stays as it is: Vault takes no other than what the service account
    notes. That the new token works is tried by a log-in, and only then noted.

    Args:
        vault: client whose token has the policy of `definitions.renewer_policy_resources`.
        kubernetes: client that may create tokens of the reviewer's service account, and get and patch it.
        reviewer: whose token it is.
        lifetime: for how long the new one is valid, in seconds.
        force: whether Vault gets another one in any case, as after a restore of an older state of Vault.
        check: whether nothing is changed.

    Raises:
        ConfigError: Vault's token does not end, or a note is missing or damaged, or the lifetime is too short.
        LoginDenied: Vault has the new token, and does not let in whom it reviews.
        PermissionDenied, Forbidden: a right is missing.
    """
    place = f"service account {reviewer.namespace}/{reviewer.service_account}"
    account = kubernetes.get("serviceaccounts", reviewer.namespace, reviewer.service_account)
    annotations = account["metadata"].get("annotations") or {}
    if not (noted := annotations.get(ANNOTATION)):
        raise ConfigError(
            f"{ANNOTATION} is missing: Vault has a token that does not end",
            place=place,
            remedy="set microk8s_vault_auth_token_lifetime, and run playbooks/trust.yml once",
        )
    if not force and not _is_due(noted, lifetime):
        return Renewal(renewed=False, renew_after=noted)
    if check:
        return Renewal(renewed=True, renew_after="")
    asks = _asks(annotations.get(ASKS_ANNOTATION), place)
    issued = issue(kubernetes, reviewer.namespace, reviewer.service_account, None, lifetime)
    whole = {**asks, "disable_local_ca_jwt": True, "token_reviewer_jwt": issued.token}
    Vault(vault).write(config_path(reviewer.auth_mount), whole)
    _try(vault, kubernetes, reviewer)
    note = {"metadata": {"annotations": {ANNOTATION: issued.renew_after}}}
    kubernetes.merge("serviceaccounts", reviewer.namespace, reviewer.service_account, note)
    return Renewal(renewed=True, renew_after=issued.renew_after)


def _asks(noted: str | None, place: str) -> dict[str, str]:
    """Return which API Vault asks, as it is noted: a policy that requires parameters allows no read of the path."""
    names = ("kubernetes_host", "kubernetes_ca_cert")
    try:
        values = json.loads(noted or "")
        return {name: str(values[name]) for name in names}
    except (ValueError, TypeError, KeyError, RecursionError):
        pass
    raise ConfigError(
        f"{ASKS_ANNOTATION}: found {'no JSON object with ' + ' and '.join(names) if noted else 'nothing'}",
        place=place,
        remedy="run playbooks/trust.yml once, which writes it",
    )


def _is_due(noted: str, lifetime: int) -> bool:
    """Whether half of the life of Vault's token is over, or it lasts longer than it should."""
    now = datetime.now(UTC)
    return not now.strftime(_TIME) < noted <= (now + timedelta(seconds=lifetime / 2)).strftime(_TIME)


def _try(vault: VaultClient, kubernetes: KubernetesClient, reviewer: TokenReviewer) -> None:
    """Log in as the reviewer itself, for a batch token that is stored nowhere and ends in seconds."""
    jwt = kubernetes.create_token(reviewer.namespace, reviewer.service_account, reviewer.audience)
    try:
        vault.login_kubernetes(REVIEWER_ROLE, jwt, reviewer.auth_mount)
    except LoginDenied as error:
        error.remedy = "run playbooks/trust.yml, which repairs what Vault and Kubernetes know of each other"
        raise
