"""The exceptions of this package, one tree.

    SecretManagerError
    ├── ConfigError              an option, a file or an environment variable is missing or wrong
    │   ├── WrongArguments           a method was called with arguments that it does not have
    │   ├── FormerMethod             a method of dekeyrej-secretmanager was called
    │   └── ProgramError             the program that `kubevault exec` should run cannot be run
    ├── ManagerClosed            the manager was closed
    ├── SecretFileError          a file of secrets is missing, not readable, or accessible to others
    ├── SecretDataError          a Secret was read, but its content cannot be used
    │   ├── SecretKeyNotFound        it lacks the data key
    │   ├── SecretFormatError        the value is not JSON, or not of the form that was asked for
    │   └── SealedDataError          the manifest or a ciphertext is damaged, or belongs to another place
    │       └── WrongTransitKey          it was sealed with another Transit key than the one that was named
    ├── SealingFailed            some of several Secrets could not be sealed
    ├── RestartFailed            workloads could not be restarted, or their rollout did not end
    ├── NotRetired               a version of a Transit key is still in use
    ├── TLSError                 a server's certificate verification failed
    ├── VaultError               Vault refused
    │   ├── VaultUnavailable         there is no connection, or no response in time
    │   │   └── VaultSealed              it is sealed, or not initialised
    │   ├── LoginDenied              the log-in was refused
    │   ├── InvalidToken             the token has expired, or was revoked
    │   ├── PermissionDenied         the token's policies lack a capability
    │   ├── TransitKeyNotFound       the key does not exist
    │   └── DecryptionFailed         the key does not decrypt this ciphertext at this place
    ├── KubernetesError          the Kubernetes API refused
    │   ├── KubernetesUnavailable    there is no connection, or no response in time
    │   ├── Forbidden                RBAC, or an admission control, does not permit it; or the caller is not known
    │   ├── SecretNotFound           the Secret or ConfigMap does not exist
    │   ├── ConflictError            another writer changed the object in between
    │   └── LeaseHeld                another rotation of the key is running, or took over
    └── NoticeError              Redis refused, or is unreachable

No message holds a value, a token or a key. What a server said is quoted in the message.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from functools import wraps
from inspect import Parameter, iscoroutinefunction, signature
from pathlib import Path
from types import FunctionType, GeneratorType
from typing import Any, TypeVar

__all__ = [
    "ConfigError",
    "ConflictError",
    "DecryptionFailed",
    "Forbidden",
    "FormerMethod",
    "InvalidToken",
    "KubernetesError",
    "KubernetesUnavailable",
    "LeaseHeld",
    "LoginDenied",
    "ManagerClosed",
    "NotRetired",
    "NoticeError",
    "PermissionDenied",
    "ProgramError",
    "RestartFailed",
    "SealedDataError",
    "SealingFailed",
    "SecretDataError",
    "SecretFileError",
    "SecretFormatError",
    "SecretKeyNotFound",
    "SecretManagerError",
    "SecretNotFound",
    "TLSError",
    "TransitKeyNotFound",
    "VaultError",
    "VaultSealed",
    "VaultUnavailable",
    "WrongArguments",
    "WrongTransitKey",
]

if any(Path(__file__).with_name(name).exists() for name in ("secretregistry.py", "secretmanager.py")):
    # Here, because every way into this package imports this module, even if the other one replaced __init__.py.
    raise ImportError(
        "kubevault and dekeyrej-secretmanager are installed into one folder, secretmanager; uninstall both and install"
        " kubevault again: pip uninstall dekeyrej-secretmanager kubevault && pip install kubevault"
    )

Guarded = TypeVar("Guarded", bound=type)
Result = TypeVar("Result")

SHOWN = 10
"""How many errors, or Secrets, one message quotes."""


class SecretManagerError(Exception):
    """Base class of all exceptions of this package.

    Args:
        message: what failed, and why.
        place: where it failed: ``namespace/name``, ``namespace/name[key]``, a path or a URL.
        remedy: what to do about it.
    """

    def __init__(self, message: str, *, place: str | None = None, remedy: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.place = place
        self.remedy = remedy

    def __str__(self) -> str:
        """Return place, message and remedy in one line, as a terminal shows it: others wrote parts of it."""
        text = f"{self.place}: {self.message}" if self.place else self.message
        return printable(f"{text}; {self.remedy}" if self.remedy else text)

    def __reduce__(self) -> tuple[Any, ...]:
        """Tell pickle and copy how to make it again: by default by a call with the message, which most do not take."""
        return _made_again, (type(self), self.args), self.__dict__


def _made_again(kind: type[SecretManagerError], args: tuple[Any, ...]) -> SecretManagerError:
    return kind.__new__(kind, *args)


class ConfigError(SecretManagerError):
    """An option, a file or an environment variable is missing or wrong; nothing was sent or written."""


class WrongArguments(ConfigError, TypeError):
    """A method was called with arguments that it does not have, or without one that it needs."""


class FormerMethod(ConfigError, AttributeError):
    """A method of dekeyrej-secretmanager that this package does not have."""


class ProgramError(ConfigError):
    """The program that ``kubevault exec`` should run cannot be run.

    Attributes:
        exit_status: status to exit with, as of env(1): 126 or 127.
    """

    def __init__(self, message: str, *, exit_status: int, place: str) -> None:
        super().__init__(message, place=place)
        self.exit_status = exit_status


class ManagerClosed(SecretManagerError):
    """The manager was closed and its Vault token revoked; create a new one."""


class SecretFileError(SecretManagerError):
    """A file of secrets cannot be used.

    Attributes:
        reason: "missing", "not readable" or "open to others".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason


class SecretDataError(SecretManagerError):
    """A Secret was read, but its content cannot be used."""


class SecretKeyNotFound(SecretDataError):
    """The Secret or ConfigMap lacks the data key, or the environment the variable."""


class SecretFormatError(SecretDataError):
    """The value is not JSON, or not of the form that was asked for."""


class SealedDataError(SecretDataError):
    """A manifest or a ciphertext is damaged or missing, or belongs to another place."""


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


class SealingFailed(SecretManagerError):
    """Some of several Secrets could not be sealed.

    Attributes:
        errors: the error of each.
        outcomes: what was done to the others, each a `sealing.plan.Outcome`.
        file: the manifest file that was written before; None if none was.
    """

    def __init__(
        self, errors: Sequence[SecretManagerError], outcomes: Sequence[Any] = (), file: str | None = None
    ) -> None:
        changed = sum(outcome.changed for outcome in outcomes)
        quoted = _first([str(error) for error in errors])
        and_file = f", and {file}" if file else ""
        super().__init__(f"not all could be sealed; {changed} Secrets were written{and_file}: {quoted}")
        self.errors = tuple(errors)
        self.outcomes = tuple(outcomes)
        self.file = file


class RestartFailed(SecretManagerError):
    """Workloads could not be restarted, or their rollout did not end.

    Attributes:
        errors: the error of each.
    """

    def __init__(self, errors: Sequence[SecretManagerError]) -> None:
        super().__init__(_first([str(error) for error in errors]))
        self.errors = tuple(errors)


def _first(texts: Sequence[str]) -> str:
    """Return the first texts, as many as a message quotes, and how many more there are."""
    rest = f"; and {len(texts) - SHOWN} more" if len(texts) > SHOWN else ""
    return f"{'; '.join(texts[:SHOWN])}{rest}"


class NotRetired(SecretManagerError):
    """Older versions of a Transit key are not retired, since Secrets still use them.

    Attributes:
        behind: those Secrets, and why they are behind.
    """

    def __init__(self, transit_key: str, behind: Mapping[str, str]) -> None:
        places = _first([f"{place} ({why})" for place, why in sorted(behind.items())])
        super().__init__(
            f"older versions are not retired: {len(behind)} Secrets are behind: {places}",
            place=f"Transit key {transit_key}",
            remedy="rewrap them, or seal them again",
        )
        self.behind = dict(behind)


class TLSError(SecretManagerError):
    """Verification of a server's certificate failed, or the server does not accept the client's.

    Attributes:
        reason: "unknown authority", "expired", "wrong host name", "extensions" if the server's certificate or its
            CA's lacks what RFC 5280 wants, "client certificate", "no TLS", or "other".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason


class VaultError(SecretManagerError):
    """Vault refused.

    Attributes:
        status: HTTP status of its answer; None without an answer.
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
    """Vault cannot be connected to, or did not answer in time."""


class VaultSealed(VaultUnavailable):
    """Vault is sealed or not initialised."""


class LoginDenied(VaultError):
    """Vault refused the log-in: role, service account, namespace, audience or credential do not fit."""


class InvalidToken(VaultError):
    """The token has expired, was revoked, or is not a token of this Vault."""


class PermissionDenied(VaultError):
    """The token's policies lack a capability.

    Attributes:
        path: the path, without ``/v1/``.
        capability: the capability that is missing, as a policy names it; empty if it is not known.
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
    """The Transit engine has no key with this name."""


class DecryptionFailed(VaultError):
    """The Transit key does not decrypt this ciphertext at this place.

    Attributes:
        reason: "damaged" if the value is not what was sealed, by its checksum, "does not fit" if it was sealed for
            another place or with another key, or may be damaged, "version" if the key's version is no longer allowed to
            decrypt, "other" for what `errors` says.
        damaged: whether it is damaged, by its checksum.
    """

    damaged: bool = False

    @property
    def reason(self) -> str:
        """Why it failed, as Vault or the checksum says."""
        if self.damaged:
            return "damaged"
        text = " ".join(self.errors)
        if "version" in text:
            return "version"
        return "does not fit" if "authentication failed" in text or "context" in text else "other"


class KubernetesError(SecretManagerError):
    """The Kubernetes API refused.

    Attributes:
        status: HTTP status of its answer; None without an answer.
        reason: Kubernetes' word for it, such as ``AlreadyExists``.
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
    """The Kubernetes API cannot be connected to, or did not answer in time."""


class Forbidden(KubernetesError):
    """RBAC lacks a permission, an admission control refuses the request, or the API does not know the caller."""


class SecretNotFound(KubernetesError):
    """The Secret, ConfigMap, service account or namespace does not exist."""


class ConflictError(KubernetesError):
    """Another writer changed the object in between, or created it first."""


class LeaseHeld(KubernetesError):
    """Another rotation of the key is running, or has taken over; what was done before stays.

    Attributes:
        holder: who holds the Lease; empty if that is not known.
    """

    def __init__(self, message: str, *, holder: str, place: str) -> None:
        super().__init__(message, place=place, remedy="wait until the other rotation has ended, and run it again")
        self.holder = holder


class NoticeError(SecretManagerError):
    """Redis refused or is unreachable, so that change notices are neither sent nor received.

    Attributes:
        reason: "unreachable", "denied" or "other".
    """

    def __init__(self, message: str, *, reason: str, place: str, remedy: str | None = None) -> None:
        super().__init__(message, place=place, remedy=remedy)
        self.reason = reason


def quoted(value: object) -> str:
    """Return a value as an error quotes it; what is not given is "nothing", which no user writes as ``None``."""
    return "nothing" if value is None else repr(value)


def printable(text: str) -> str:
    """Return a text in which a character that a terminal would obey, or cannot show, is written as its escape."""
    if text.isprintable():
        return text
    return "".join(
        character if character.isprintable() else character.encode("unicode_escape").decode("ascii")
        for character in text
    )


def unexpected(error: BaseException) -> str:
    """Describe an exception that no one translated, by its type and place alone: its text may hold a secret."""
    where = getattr(error, _PLACE, "") or _raised_in(error)
    return f"unexpected {type(error).__name__}{where}; this is a bug of kubevault: please report it with this line"


def _raised_in(error: BaseException) -> str:
    trace = error.__traceback__
    while trace and trace.tb_next:
        trace = trace.tb_next
    return f" in {Path(trace.tb_frame.f_code.co_filename).name}, line {trace.tb_lineno}" if trace else ""


_PLACE = "_kubevault_place"
"""Attribute of an exception whose frames were dropped: where it was raised, for `unexpected`."""


def drop_frames(error: BaseException, outer: BaseException | None = None) -> None:
    """Drop the frames of an exception, and of those that it came from, before it leaves this package.

    The frames' variables hold tokens, ciphertexts and plaintexts, and what records errors may record these: Sentry,
    tracebacks of rich, ``pytest --showlocals``. Frames of the caller follow while the exception goes on.

    Args:
        error: the exception.
        outer: what the caller was handling when it called, which keeps its frames: `sys.exception`.
    """
    pending: list[BaseException | None] = [error]
    visited = {id(outer)}
    while pending:
        one = pending.pop()
        if one is None or id(one) in visited:
            continue
        visited.add(id(one))
        if not isinstance(one, SecretManagerError) and one.__traceback__ and not hasattr(one, _PLACE):
            setattr(one, _PLACE, _raised_in(one))
        one.__traceback__ = None
        several = [item for item in getattr(one, "errors", ()) if isinstance(item, BaseException)]
        pending += [one.__cause__, one.__context__, *several]


def check_arguments(
    function: Callable[..., Any], count: int, names: Collection[str], called: str | None = None
) -> None:
    """Check that a function has the arguments that it is called with, and all that it needs.

    Args:
        function: the function.
        count: how many arguments are given by position, with ``self`` of a method.
        names: the names of those that are given by name.
        called: how it was called, for the error; None for its own name.

    Raises:
        WrongArguments: an argument is unknown, missing or given twice; names it, and says what is allowed.
    """
    parameters = list(signature(function).parameters.values())
    if parameters and parameters[0].name in ("self", "cls"):
        parameters, count = parameters[1:], count - 1
    kinds = {item.kind for item in parameters}
    by_position = [item.name for item in parameters if item.kind in (item.POSITIONAL_ONLY, item.POSITIONAL_OR_KEYWORD)]
    addressable = [item for item in parameters if item.kind not in (item.VAR_POSITIONAL, item.VAR_KEYWORD)]
    positional = by_position[: max(count, 0)]
    allowed_names = [item.name for item in addressable]
    problems = []
    if unknown := [name for name in names if name not in allowed_names and Parameter.VAR_KEYWORD not in kinds]:
        problems.append(f"{', '.join(map(str, unknown))}: unknown")
    if count > len(by_position) and Parameter.VAR_POSITIONAL not in kinds:
        problems.append(f"found {count} arguments without a name, at most {len(by_position)} have a place")
    if twice := [name for name in positional if name in names]:
        problems.append(f"{', '.join(twice)}: is given twice")
    required = [item.name for item in addressable if item.default is item.empty]
    if missing := [name for name in required if name not in {*positional, *names}]:
        problems.append(f"{', '.join(missing)}: {'is' if len(missing) == 1 else 'are'} missing")
    if problems:
        allowed = f"allowed are {', '.join(allowed_names)}" if allowed_names else "there are no arguments"
        raise WrongArguments(f"{'; '.join(problems)}; {allowed}", place=f"{called or _name_of(function)}()")


def _name_of(function: Callable[..., Any]) -> str:
    """Return the name of a function as its caller knows it: of a class what makes one of it."""
    return function.__qualname__.removesuffix(".__init__").rpartition(".")[2]


def guarded(kind: Guarded) -> Guarded:
    """Have the public methods of a class raise errors of this package alone, without frames (`drop_frames`).

    The text of other errors may hold a secret.
    """
    return _bounded(kind, translate=True)


def frameless(kind: Guarded) -> Guarded:
    """Have the public methods of a class raise errors without frames (`drop_frames`), also while they are iterated."""
    return _bounded(kind, translate=False)


_SPECIAL = ("__init__", "__next__", "__anext__", "__iter__", "__getattr__")


def _bounded(kind: Guarded, *, translate: bool) -> Guarded:
    for name, method in list(vars(kind).items()):
        if name.startswith("_") and name not in _SPECIAL:
            continue
        if isinstance(method, classmethod | staticmethod):
            setattr(kind, name, type(method)(_boundary(method.__func__, translate=translate)))
        elif isinstance(method, FunctionType):
            setattr(kind, name, _boundary(method, translate=translate))
    return kind


def _boundary(method: Callable[..., Any], *, translate: bool) -> Callable[..., Any]:
    """Return a function that calls another one, and drops the frames of what that raises."""
    # A frame of these functions goes along with the exception, so it forgets the arguments.
    if iscoroutinefunction(method):

        @wraps(method)
        async def called(*args: Any, **options: Any) -> Any:
            outer = sys.exception()
            try:
                return await method(*args, **options)
            except BaseException as error:
                call_shape = len(args), tuple(options)
                del args, options
                failure = _leaving(error, outer, method, call_shape, translate=translate)
                if failure is error:
                    raise
            raise failure  # here, so that the original is not its context

        return called

    @wraps(method)
    def call(*args: Any, **options: Any) -> Any:
        outer = sys.exception()
        try:
            result = method(*args, **options)
            return _steps(result, translate=translate) if isinstance(result, GeneratorType) else result
        except BaseException as error:
            call_shape = len(args), tuple(options)
            del args, options
            failure = _leaving(error, outer, method, call_shape, translate=translate)
            if failure is error:
                raise
        raise failure

    return call


def _steps(generator: GeneratorType[Any, Any, Any], *, translate: bool) -> Iterator[Any]:
    """Yield what a generator of a method yields; its exceptions leave without frames, too."""
    following = _boundary(generator.__next__, translate=translate)
    try:
        while True:
            yield following()
    except StopIteration:
        return
    finally:
        generator.close()


def _leaving(
    error: BaseException,
    outer: BaseException | None,
    method: Callable[..., Any],
    call_shape: tuple[int, tuple[str, ...]],
    *,
    translate: bool,
) -> BaseException:
    """Return what to raise instead of an exception, or itself without its frames.

    Args:
        error: the exception.
        outer: as of `drop_frames`.
        method: what was called.
        call_shape: how many arguments it had by position, and the names of the others.
        translate: whether errors of other packages are translated.
    """
    # Python's own TypeError has no further frame: the method was called with arguments that it does not have.
    ours = not error.__traceback__ or error.__traceback__.tb_next is not None
    missing = method.__name__ == "__getattr__"
    own = missing or isinstance(error, SecretManagerError | StopIteration) or not isinstance(error, Exception)
    if not ours and isinstance(error, TypeError):
        try:
            check_arguments(method, *call_shape)
        except WrongArguments as refusal:
            drop_frames(refusal, outer)
            return refusal
    if translate and ours and not own:
        message = f"{method.__name__}: {unexpected(error)}"
        return SecretManagerError(message, remedy="check the types of the arguments first")
    drop_frames(error, outer)
    return error
