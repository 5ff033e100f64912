"""Address and credentials of the Kubernetes API, from a kubeconfig file or a pod's own service account.

Sources: https://kubernetes.io/docs/reference/config-api/kubeconfig.v1/ and
https://kubernetes.io/docs/tasks/run-application/access-api-from-pod/#directly-accessing-the-rest-api
"""

from __future__ import annotations

import base64
import binascii
import os
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ..errors import ConfigError
from .http import load_client_cert, tls_context

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token, CA and namespace."""

_TOKEN_AGE = 60.0  # seconds that a mounted token is used before its file is read again; the kubelet renews it


@dataclass(frozen=True)
class ClusterAccess:
    """Address and credentials of a Kubernetes API.

    Attributes:
        url: the API's address.
        context: TLS context with the cluster's CA, and the user's client certificate, if any.
        authorization: returns the header ``Authorization``; None if the client certificate identifies the user.
    """

    url: str
    context: ssl.SSLContext
    authorization: Callable[[], str] | None = field(default=None, repr=False)


def find_access(
    kubeconfig: str | Path | None = None,
    context: str | None = None,
    token: str | None = None,
    *,
    host: str | None = None,
    ca_cert: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
) -> ClusterAccess:
    """Find the Kubernetes API: the host given, else the file given, else ``$KUBECONFIG``, else the pod's own service
    account, else ``~/.kube/config``.

    Args:
        kubeconfig: path of a kubeconfig file.
        context: its context to use; without one, the file's current one.
        token: bearer token to authenticate with, instead of the file's user.
        host: the API's address, instead of a file; see `from_host` for this and the options below.
        ca_cert: for ``host``.
        client_cert: for ``host``.
        client_key: for ``host``.

    Raises:
        ConfigError: there is no file, or it cannot be used; names the field.
    """
    if host:
        return from_host(host, token, ca_cert, client_cert, client_key)
    if kubeconfig:
        return from_file(Path(kubeconfig), context, token)
    if named := os.environ.get("KUBECONFIG"):
        files = [Path(part) for part in named.split(os.pathsep) if part]
        if len(files) > 1:
            raise ConfigError(
                f"KUBECONFIG: found {len(files)} files; allowed is one: merge them with"
                " `kubectl config view --flatten`, or name one as kubeconfig"
            )
        return from_file(files[0], context, token)
    if "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT_DIR / "token").exists():
        return in_cluster(token)
    return from_file(Path("~/.kube/config"), context, token)


def in_cluster(token: str | None = None) -> ClusterAccess:
    """Return access by the service account that Kubernetes mounts into a pod, or by another token.

    Raises:
        ConfigError: this is not a pod, or it mounts no service account.
    """
    try:
        host, port = (os.environ[f"KUBERNETES_SERVICE_{part}"] for part in ("HOST", "PORT"))
    except KeyError as error:
        raise ConfigError(f"{error.args[0]} is not set: this is not a pod; name a kubeconfig file") from error
    mounted = MountedToken(SERVICE_ACCOUNT_DIR / "token")
    address = f"[{host}]" if ":" in host else host
    return ClusterAccess(
        f"https://{address}:{port}",
        tls_context(str(SERVICE_ACCOUNT_DIR / "ca.crt")),
        lambda: f"Bearer {token or mounted()}",
    )


def from_host(
    host: str,
    token: str | None = None,
    ca_cert: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
) -> ClusterAccess:
    """Return access by an explicit address.

    Args:
        host: the API's address, ``https://...``.
        token: bearer token to authenticate with.
        ca_cert: path of the PEM file of the CA of its certificate; None for the system's own CAs.
        client_cert: path of the PEM file of the client certificate to authenticate with.
        client_key: path of the PEM file of its key.

    Raises:
        ConfigError: a file cannot be used, or there are no credentials.
    """
    if not token and not (client_cert and client_key):
        raise ConfigError("api_key, or client_cert and client_key, is missing: host needs credentials")
    context = tls_context(ca_cert or True)
    if client_cert and client_key:
        load_client_cert(context, client_cert, client_key)
    return ClusterAccess(host, context, (lambda: f"Bearer {token}") if token else None)


class MountedToken:
    """A token in a file that another process renews, such as the kubelet.

    Args:
        path: the token's file.
        max_age: time that a token is used before the file is read again, in seconds.
    """

    def __init__(self, path: str | Path, max_age: float = _TOKEN_AGE) -> None:
        self.path = Path(path)
        self._max_age = max_age
        self._token = ""
        self._read_at = float("-inf")

    def __call__(self) -> str:
        """Return the token.

        Raises:
            ConfigError: the file cannot be read, or is empty.
        """
        now = time.monotonic()
        if now - self._read_at > self._max_age:
            try:
                self._token = self.path.read_text(encoding="ascii").strip()
            except (OSError, UnicodeDecodeError) as error:
                reason = getattr(error, "strerror", None) or "is not ASCII text"
                raise ConfigError(f"{self.path}: {reason}; it should hold a token") from error
            if not self._token:
                raise ConfigError(f"{self.path}: is empty; it should hold a token")
            self._read_at = now
        return self._token


def from_file(path: Path, context: str | None = None, token: str | None = None) -> ClusterAccess:
    """Return access by a kubeconfig file.

    Users with a client certificate, a token or a token file are read here. Exec plugins and auth providers
    are left to the package ``kubernetes`` (extra ``kubevault[kubernetes]``).

    Args:
        path: the file.
        context: its context to use; without one, its current one.
        token: bearer token to authenticate with, instead of the file's user.

    Raises:
        ConfigError: the file cannot be used; names the field.
    """
    file = _File.load(path.expanduser())
    name = context or file.content.get("current-context")
    if not name:
        raise ConfigError(f"{file.path}: has no current-context; name a context")
    chosen = file.entry("contexts", "context", str(name))
    cluster = file.entry("clusters", "cluster", str(chosen.get("cluster")))
    user = {"token": token} if token else file.entry("users", "user", str(chosen.get("user")))
    if "server" not in cluster:
        raise ConfigError(f"{file.path}: cluster {chosen['cluster']!r} has no server")
    if cluster.get("insecure-skip-tls-verify"):
        raise ConfigError(
            f"{file.path}: cluster {chosen['cluster']!r} has insecure-skip-tls-verify; certificates are always"
            " verified, so give certificate-authority instead"
        )
    return ClusterAccess(str(cluster["server"]), file.tls(cluster, user), file.authorization(user, str(name)))


@dataclass(frozen=True)
class _File:
    path: Path
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> _File:
        import yaml

        loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
        try:
            content = yaml.load(path.read_bytes(), loader)  # noqa: S506 - both are safe loaders
        except OSError as error:
            raise ConfigError(f"kubeconfig: {path}: {error.strerror}; name a file, or set KUBECONFIG") from error
        except yaml.YAMLError:
            # Not "from" the original, which quotes the file.
            raise ConfigError(f"kubeconfig: {path} is not YAML") from None
        if not isinstance(content, dict):
            raise ConfigError(f"kubeconfig: {path} is not a kubeconfig file")
        return cls(path, content)

    def entry(self, section: str, kind: str, name: str) -> Mapping[str, Any]:
        entries = self.content.get(section) or []
        for entry in entries:
            if entry.get("name") == name:
                return entry.get(kind) or {}
        known = ", ".join(str(entry.get("name")) for entry in entries) or "none"
        raise ConfigError(f"{self.path}: {kind} {name!r} is missing; found {known}")

    def tls(self, cluster: Mapping[str, Any], user: Mapping[str, Any]) -> ssl.SSLContext:
        if inline := cluster.get("certificate-authority-data"):
            context = tls_context(ca_pem=self._decoded(inline, "certificate-authority-data").decode())
        elif ca := cluster.get("certificate-authority"):
            context = tls_context(self._resolved(ca))
        else:
            context = tls_context()
        cert, key = self._pem(user, "client-certificate"), self._pem(user, "client-key")
        if cert and key:
            load_client_cert(context, cert, key)
        return context

    def authorization(self, user: Mapping[str, Any], context: str) -> Callable[[], str] | None:
        if path := user.get("tokenFile"):
            token = MountedToken(self._resolved(path))
            return lambda: f"Bearer {token()}"
        if token_text := user.get("token"):
            return lambda: f"Bearer {token_text}"
        if "exec" in user or "auth-provider" in user:
            return _plugin(self.path, context)
        return None

    def _pem(self, user: Mapping[str, Any], name: str) -> str | bytes | None:
        if inline := user.get(f"{name}-data"):
            return self._decoded(inline, f"{name}-data")
        path = user.get(name)
        return self._resolved(path) if path else None

    def _decoded(self, text: str, name: str) -> bytes:
        try:
            return base64.b64decode(text, validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{self.path}: {name} is not base64") from None

    def _resolved(self, path: str) -> str:
        """Return a path; a relative one is resolved against the file's folder, as kubectl does."""
        return str(self.path.parent / Path(path))


def _plugin(path: Path, context: str) -> Callable[[], str]:
    """Have the package ``kubernetes`` run the user's exec plugin or auth provider, and renew its credentials."""
    try:
        from kubernetes import client, config
    except ImportError as error:
        raise ConfigError(
            f"{path}: the user of context {context!r} needs a plugin; install kubevault[kubernetes]"
        ) from error
    configuration = client.Configuration()
    try:
        config.load_kube_config(  # type: ignore[no-untyped-call] # the package has no types
            str(path), context, client_configuration=configuration
        )
    except config.ConfigException as error:
        raise ConfigError(f"{path}: context {context!r}: {error}") from error
    return lambda: str(configuration.get_api_key_with_prefix("authorization"))
