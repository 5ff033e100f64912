"""The exceptions of this package, one tree.

    SecretManagerError
    ├── ConfigError              an option, file or environment variable is missing or wrong
    ├── ManagerClosed            the manager was closed
    ├── SecretFileError          a file of secrets is missing, not readable, or open to others
    ├── SecretDataError          a Secret was read, but what it holds cannot be used
    │   ├── SecretKeyNotFound        it lacks the data key
    │   ├── SecretFormatError        the value is not JSON, or not of the form that was asked for
    │   └── SealedDataError          manifest or ciphertext is damaged, or belongs elsewhere
    │       └── WrongTransitKey          it was sealed with another Transit key than the one that was named
    ├── TLSError                 a server's certificate is not to be trusted
    ├── VaultError               Vault refused
    │   ├── VaultUnavailable         no connection, or no answer in time
    │   │   └── VaultSealed              it is sealed, or not initialised
    │   ├── LoginDenied              the log-in was refused
    │   ├── InvalidToken             the token has ended, or was revoked
    │   ├── PermissionDenied         the token's policies lack a capability
    │   ├── TransitKeyNotFound       there is no such key
    │   └── DecryptionFailed         the key does not open this ciphertext at this place
    ├── KubernetesError          the Kubernetes API refused
    │   ├── KubernetesUnavailable    no connection, or no answer in time
    │   ├── Forbidden                RBAC lacks a permission, or the API does not know the caller
    │   ├── SecretNotFound           there is no such Secret or ConfigMap
    │   └── ConflictError            somebody else wrote in between
    └── NoticeError              Redis refused, or is out of reach

No message holds a value, a token or a key. What a server said stands in the message, in its own words.
"""

from __future__ import annotations

from collections.abc import Sequence


class SecretManagerError(Exception):
    """Anything that this package raises on purpose.

    Args:
        message: what failed, and why.
        place: where: ``namespace/name``, ``namespace/name[key]``, a path or a URL.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, place: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        """Give place, message and remedy in one line."""
        text = f"{self.place}: {self.message}" if self.place else self.message
        return f"{text}; {self.remedy}" if self.remedy else text


class ConfigError(SecretManagerError):
    """An option, a file or an environment variable is missing or wrong; nothing was sent or written."""


class ManagerClosed(SecretManagerError):
    """The manager was closed, and its Vault token revoked; make a new one."""


class SecretFileError(SecretManagerError):
    """A file of secrets cannot be used.

    Attributes:
        reason: "missing", "not readable" or "open to others".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason


class SecretDataError(SecretManagerError):
    """A Secret was read, but what it holds cannot be used."""


class SecretKeyNotFound(SecretDataError):
    """The Secret or ConfigMap lacks the data key, or the environment the variable."""


class SecretFormatError(SecretDataError):
    """The value is not JSON, or not of the form that was asked for."""


class SealedDataError(SecretDataError):
    """A manifest or a ciphertext is damaged, missing or belongs elsewhere."""


class WrongTransitKey(SealedDataError):
    """The value was sealed with another Transit key than the one that was named.

    Attributes:
        asked: the key that was named.
        found: the key that the Secret's manifest names.
    """

    def __init__(self, *, asked: str, found: str, place: str) -> None:
        super().__init__(
            f"it was sealed with Transit key {found}, and {asked} was asked for",
            place=place,
            remedy=f"ask for {found}, or for none: the Secret says it",
        )
        self.asked = asked
        self.found = found


class TLSError(SecretManagerError):
    """A server's certificate is not to be trusted.

    Attributes:
        reason: "unknown authority", "expired", "wrong host name", or "other".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason


class VaultError(SecretManagerError):
    """Vault refused.

    Attributes:
        status: HTTP status of its answer; None where there was none.
        errors: its own messages.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        errors: Sequence[str] = (),
        place: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.status = status
        self.errors = tuple(errors)


class VaultUnavailable(VaultError):
    """There is no connection to Vault, or no answer in time."""


class VaultSealed(VaultUnavailable):
    """Vault is sealed or not initialised."""


class LoginDenied(VaultError):
    """Vault refused the log-in: role, service account, namespace, audience or credential do not fit."""


class InvalidToken(VaultError):
    """The token has ended, was revoked, or never was one."""


class PermissionDenied(VaultError):
    """The token's policies lack a capability.

    Attributes:
        path: the path, without ``/v1/``.
        capability: the capability that is missing, as a policy names it; empty where it is not known.
    """

    def __init__(
        self,
        message: str,
        *,
        path: str,
        capability: str = "",
        status: int | None = 403,
        errors: Sequence[str] = (),
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, status=status, errors=errors, remedy=remedy)
        self.path = path
        self.capability = capability


class TransitKeyNotFound(VaultError):
    """The Transit engine has no key of this name."""


class DecryptionFailed(VaultError):
    """The Transit key does not open this ciphertext at this place.

    Attributes:
        reason: "does not fit" where it was sealed for another place or with another key, "version" where the key's
            version is not allowed any more, "other" for what `errors` says.
    """

    @property
    def reason(self) -> str:
        """What does not fit, as Vault tells it."""
        said = " ".join(self.errors)
        if "version" in said:
            return "version"
        return "does not fit" if "authentication failed" in said or "context" in said else "other"


class KubernetesError(SecretManagerError):
    """The Kubernetes API refused.

    Attributes:
        status: HTTP status of its answer; None where there was none.
        reason: Kubernetes' own word for it, as ``AlreadyExists``.
    """

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        reason: str = "",
        place: str | None = None,
        remedy: str | None = None,
    ) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.status = status
        self.reason = reason


class KubernetesUnavailable(KubernetesError):
    """There is no connection to the Kubernetes API, or no answer in time."""


class Forbidden(KubernetesError):
    """RBAC lacks a permission, or the API does not know the caller."""


class SecretNotFound(KubernetesError):
    """There is no such Secret, ConfigMap, service account or namespace."""


class ConflictError(KubernetesError):
    """Somebody else wrote the object in between, or made it first."""


class NoticeError(SecretManagerError):
    """Redis refused, or is out of reach, so that change notices are neither sent nor received.

    Attributes:
        reason: "unreachable", "denied" or "other".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason
