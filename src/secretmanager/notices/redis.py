"""Change notices over Redis: that a Secret changed, and to which version; never ciphertext or plaintext.

A notice goes to the channel ``PREFIX:NAMESPACE/NAME``, so Redis' ACL can grant the channels of one namespace. A
listener then reads the Secret from Kubernetes, with its own permissions.

Needs the extra ``kubevault[redis]``. Source: https://redis.io/docs/latest/develop/pubsub/
"""

from __future__ import annotations

import json
import logging
import ssl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Self
from urllib.parse import unquote, urlsplit

from ..errors import ConfigError, NoticeError, SecretManagerError, frameless
from ..servers.connection import CONNECT_TIMEOUT, LOST, Limits, TooLarge
from ..servers.http import load_client_cert, tls_context, tls_error
from ..servers.kubeconfig import MountedToken

try:
    import redis
    from redis.backoff import NoBackoff
    from redis.credentials import CredentialProvider
    from redis.retry import Retry
except ImportError as error:
    raise ConfigError("redis_url: needs the package redis; install kubevault[redis]") from error

log = logging.getLogger(__name__)

FORMAT = 1

_CLIENT_CERTIFICATE = (
    "name a client certificate that Redis' CA has signed, and its key: redis_client_cert and redis_client_key; or have"
    " Redis not ask for one: tls-auth-clients"
)

ANSWER = 1024 * 1024
"""Size that one answer or notice may have, in bytes; a notice has a few hundred."""

HEALTH_CHECK = 15
"""How often a quiet connection is checked, in seconds."""


@dataclass(frozen=True)
class Notice:
    """That a Secret changed.

    Attributes:
        namespace: its namespace.
        name: its name.
        resource_version: Kubernetes' version of it after the change; empty if it was deleted.
        key_versions: the newest version of each Transit key that its values are sealed with.
    """

    namespace: str
    name: str
    resource_version: str = ""
    key_versions: Mapping[str, int] = field(default_factory=dict)

    def dump(self) -> str:
        """Return the notice as JSON."""
        facts = {
            "format": FORMAT,
            "namespace": self.namespace,
            "name": self.name,
            "resource_version": self.resource_version,
            "key_versions": dict(self.key_versions),
        }
        return json.dumps(facts, sort_keys=True)

    @classmethod
    def load(cls, text: str | bytes) -> Notice | None:
        """Parse a notice; None if the text is not a notice."""
        try:
            facts = json.loads(text)
            versions = {str(key): int(version) for key, version in facts["key_versions"].items()}
            return cls(str(facts["namespace"]), str(facts["name"]), str(facts["resource_version"]), versions)
        except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError):
            return None


@frameless
class Notices:
    """Sends and receives change notices over one Redis, by TLS and with a password.

    Args:
        url: ``rediss://[USER@]HOST[:PORT][/DATABASE]``.
        password_file: file that holds the password, read again at each connection.
        ca_cert: path of the PEM file of the CA of Redis' certificate, besides the system's own CAs; True for these
            alone.
        client_cert: path of the PEM file of a client certificate, which Redis requires unless ``tls-auth-clients`` says
            otherwise.
        client_key: path of the PEM file of its key.
        channel: first part of the channels' names.
        timeout: time that one whole response may take, in seconds.

    Raises:
        ConfigError: the address, password file or CA cannot be used.
    """

    def __init__(
        self,
        url: str,
        *,
        password_file: str | None = None,
        ca_cert: bool | str = True,
        client_cert: str | None = None,
        client_key: str | None = None,
        channel: str = "kubevault",
        timeout: float = 30.0,
    ) -> None:
        try:
            parts = urlsplit(url)
            self.place = f"rediss://{parts.hostname}:{parts.port or 6379}"
        except ValueError:
            # Not "from" the original, which may hold a part of a password.
            raise ConfigError("redis_url: is not a URL; allowed is rediss://[USER@]HOST[:PORT][/DATABASE]") from None
        # Never the URL itself: it may hold a password. Options in its query could turn verification off.
        if parts.scheme != "rediss" or not parts.hostname or parts.query or parts.fragment:
            raise ConfigError(
                f"redis_url: found another form, with scheme {parts.scheme!r};"
                " allowed is rediss://[USER@]HOST[:PORT][/DATABASE], without options"
            )
        try:
            database = int(parts.path.strip("/") or 0)
        except ValueError:
            raise ConfigError(f"redis_url: found {parts.path!r}; allowed is the number of a database") from None
        if not parts.password and not password_file:
            raise ConfigError("redis_password_file: is missing; notices require an authenticated Redis")
        context = tls_context(ca_cert, option="redis_ca_cert")  # for its errors
        load_client_cert(context, client_cert, client_key, ("redis_client_cert", "redis_client_key"))
        credentials = _Credentials(unquote(parts.username or ""), unquote(parts.password or ""), password_file)
        credentials.get_credentials()  # for its errors
        self._channel = channel
        pool = redis.ConnectionPool(
            _Connection,
            host=parts.hostname,
            port=parts.port or 6379,
            db=database,
            credential_provider=credentials,
            ssl_ca_certs=None if ca_cert is True else str(ca_cert),
            ssl_certfile=client_cert,
            ssl_keyfile=client_key,
            ssl_cert_reqs="required",
            ssl_check_hostname=True,
            socket_connect_timeout=min(CONNECT_TIMEOUT, timeout),
            socket_timeout=timeout,
            health_check_interval=HEALTH_CHECK,
            # The caller decides whether to try again; a listener has to know that it was disconnected.
            retry=Retry(NoBackoff(), 0),
            protocol=2,
        )
        self._redis = redis.Redis.from_pool(pool)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    def publish(self, notice: Notice) -> int:
        """Notify the listeners that a Secret changed.

        Returns:
            How many listen.

        Raises:
            NoticeError: Redis refused, or is unreachable. Listeners look at the Secret within a minute all the same.
            TLSError: verification of its certificate failed.
        """
        with self._translated():
            listeners = int(self._redis.publish(self._name(notice.namespace, notice.name), notice.dump()))
        log.debug(
            "notified %d listeners of %s/%s %s", listeners, notice.namespace, notice.name, notice.resource_version
        )
        return listeners

    def listen(self, namespace: str, name: str) -> Subscription:
        """Listen for notices of one Secret.

        Raises:
            NoticeError: Redis refuses, or is unreachable.
            TLSError: verification of its certificate failed.
        """
        pubsub = self._redis.pubsub()  # type: ignore[no-untyped-call] # it has no types
        return Subscription(self, pubsub, self._name(namespace, name))

    def close(self) -> None:
        """Close all connections."""
        self._redis.close()

    def _name(self, namespace: str, name: str) -> str:
        return f"{self._channel}:{namespace}/{name}"

    @contextmanager
    def _translated(self) -> Iterator[None]:
        try:
            yield
        # ValueError: a host that no name can be; RecursionError: an answer of lists in lists.
        except (redis.RedisError, OSError, ValueError, RecursionError) as error:
            raise self._translation(error) from error

    def _translation(self, error: Exception) -> SecretManagerError:
        cause: BaseException | None = error
        while cause is not None:
            if isinstance(cause, ssl.SSLCertVerificationError):
                return tls_error(cause, self.place)
            if isinstance(cause, ssl.SSLError) and not isinstance(cause, LOST):
                failure = tls_error(cause, self.place)
                if failure.reason == "client certificate":
                    failure.remedy = _CLIENT_CERTIFICATE
                return failure
            cause = cause.__cause__ or cause.__context__
        denied = (redis.AuthenticationError, redis.exceptions.AuthorizationError, redis.exceptions.NoPermissionError)
        if isinstance(error, denied):
            return NoticeError(
                f"Redis refuses: {error}",
                reason="denied",
                place=self.place,
                remedy="check user, password and the ACL of the channels",
            )
        if isinstance(error, redis.ConnectionError | redis.TimeoutError | OSError):
            return NoticeError(
                f"no response from Redis: {error}",
                reason="unreachable",
                place=self.place,
                remedy="check the address, and that Redis is running",
            )
        return NoticeError(f"Redis: {error}", reason="other", place=self.place)


class _Connection(redis.SSLConnection):
    """A connection each of whose answers has `Limits`: redis-py's time limit is that of a single recv."""

    def __init__(self, *, socket_timeout: float, **options: Any) -> None:
        self._limits = Limits()
        self._seconds = socket_timeout
        super().__init__(socket_timeout=socket_timeout, **options)

    def _connect(self) -> Any:
        return _Socket(super()._connect(), self._limits)  # type: ignore[no-untyped-call] # it has no types

    def send_packed_command(self, *args: Any, **options: Any) -> None:
        self._limits.begin(self._seconds, ANSWER)
        super().send_packed_command(*args, **options)  # type: ignore[no-untyped-call] # it has no types

    def can_read(self, timeout: float = 0) -> bool:
        self._limits.begin(max(timeout, self._seconds), ANSWER)
        return bool(super().can_read(timeout))

    def read_response(self, *args: Any, **options: Any) -> Any:
        self._limits.begin(self._seconds, ANSWER)
        return super().read_response(*args, **options)


class _Socket:
    """A socket that is read and written within limits."""

    def __init__(self, sock: ssl.SSLSocket, limits: Limits) -> None:
        self._sock = sock
        self._limits = limits
        self._timeout = sock.gettimeout()

    def settimeout(self, timeout: float | None) -> None:
        self._timeout = timeout

    def recv(self, number: int) -> bytes:
        self._wait()
        block = self._sock.recv(number)
        self._count(len(block))
        return block

    def recv_into(self, buffer: bytearray) -> int:
        """Receive as `socket.socket.recv_into`, for redis-py's parser hiredis."""
        self._wait()
        number = self._sock.recv_into(buffer)
        self._count(number)
        return number

    def sendall(self, data: bytes) -> None:
        self._wait()
        try:
            self._sock.sendall(data)
        except LOST:
            # Before the end it may have said why, as in TLS that it wants a client certificate.
            self._sock.recv(1)
            raise

    def _wait(self) -> None:
        left = self._limits.seconds()
        self._sock.settimeout(left if self._timeout is None else min(left, self._timeout))

    def _count(self, number: int) -> None:
        try:
            self._limits.count(number)
        except TooLarge as error:
            raise redis.ConnectionError(f"it sends more than {error.size:,} bytes in one answer") from None

    def __getattr__(self, name: str) -> Any:
        return getattr(self._sock, name)


class _Credentials(CredentialProvider):
    """Gives user and password at each connection, so that a new password in its file is used."""

    def __init__(self, user: str, password: str, path: str | None) -> None:
        self._user = user
        self._password = password
        self._file = MountedToken(path, max_age=0) if path else None

    def get_credentials(self) -> tuple[str] | tuple[str, str]:
        password = self._file() if self._file else self._password
        return (self._user, password) if self._user else (password,)


@frameless
class Subscription:
    """A subscription to the notices of one Secret; redis-py renews it when the connection was lost."""

    def __init__(self, notices: Notices, pubsub: redis.client.PubSub, channel: str) -> None:
        self._notices = notices
        self._pubsub = pubsub
        with notices._translated():
            pubsub.subscribe(channel)

    def wait(self, seconds: float) -> bool:
        """Wait for a reason to look at the Secret: a notice, or a renewed subscription, as one may be missed.

        Args:
            seconds: how long to wait at most.

        Returns:
            Whether there was a reason.

        Raises:
            NoticeError: Redis refuses, or is unreachable.
            TLSError: verification of its certificate failed.
        """
        with self._notices._translated():
            message = self._pubsub.get_message(timeout=seconds)
        if message is None:
            return False
        notice = Notice.load(message["data"]) if message["type"] == "message" else None
        log.debug("Redis: %s %s", message["type"], notice or "")
        return message["type"] in ("message", "subscribe")

    def close(self) -> None:
        """End it."""
        self._pubsub.close()


def publish(notice: Notice, url: str, **options: object) -> int:
    """Send one notice; arguments, result and errors as of `Notices` and `Notices.publish`."""
    with Notices(url, **options) as notices:  # type: ignore[arg-type] # they are those of Notices
        return notices.publish(notice)
