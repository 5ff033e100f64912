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
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote

from ..errors import ConfigError
from .http import credential, load_client_cert, shown, tls_context

SERVICE_ACCOUNT_DIR = Path("/var/run/secrets/kubernetes.io/serviceaccount")
"""Where Kubernetes mounts a pod's token, CA and namespace."""

_TOKEN_AGE = 60.0  # seconds that a mounted token is used before its file is read again; the kubelet renews it

_UNSUPPORTED_IN_CLUSTER = {
    "insecure-skip-tls-verify": "give certificate-authority instead: certificates are always verified",
}
_UNSUPPORTED_IN_USER = {
    **dict.fromkeys(("username", "password"), "use a token or a client certificate: Kubernetes 1.19 ended passwords"),
    "auth-provider": "use an exec plugin, as kubectl does since 1.26",
}
"""Fields that are refused, with what to do instead: ignored, they would change who asks, or whom."""

_FILES = ("certificate-authority", "client-certificate", "client-key")
_TYPES: Mapping[str, type | list[type]] = {
    **dict.fromkeys(
        ("server", "tls-server-name", "proxy-url", "cluster", "user", "token", "tokenFile", "as", "as-uid"), str
    ),
    **dict.fromkeys((*_FILES, *(f"{name}-data" for name in _FILES)), str),
    **dict.fromkeys(("apiVersion", "command", "installHint", "interactiveMode", "name", "value"), str),
    "provideClusterInfo": bool,
    **dict.fromkeys(("exec", "as-user-extra"), Mapping),
    "as-groups": [str],
    "args": [str],
    "env": [Mapping],
    "extensions": [Mapping],
}
"""Types of fields, of lists that of their items. YAML reads some texts as other types unless they are quoted."""

_TOKEN = "!#$&'*+-.^_`|~"  # what the name of a header may hold besides letters and digits (RFC 9110 section 5.6.2)

_ALLOWED = {str: "text, so quote it", bool: "true or false", Mapping: "a mapping"}


@dataclass(frozen=True)
class ClusterAccess:
    """Address and credentials of a Kubernetes API.

    Attributes:
        url: the API's address.
        context: TLS context with the cluster's CA, and the user's client certificate, if any.
        authorization: returns the header ``Authorization``; it, or what it returns, is None if the client certificate
            identifies the user. It is called before each request, and may bring a client certificate into ``context``.
        proxy: proxy to the API, as `connection.Proxy.find` takes it.
        server_name: name that the API's certificate must hold; None for the address's.
        impersonation: headers of each request by which the user acts as another one.
    """

    url: str
    context: ssl.SSLContext
    authorization: Callable[[], str | None] | None = field(default=None, repr=False)
    proxy: str | None = field(default=None, repr=False)
    server_name: str | None = None
    impersonation: Mapping[str, list[bytes]] = field(default_factory=dict)


def find_access(
    kubeconfig: str | Path | Mapping[str, Any] | None = None,
    context: str | None = None,
    token: str | None = None,
    *,
    host: str | None = None,
    ca_cert: str | None = None,
    client_cert: str | None = None,
    client_key: str | None = None,
    proxy: str | None = None,
) -> ClusterAccess:
    """Find the Kubernetes API: the host given, else the file given, else ``$KUBECONFIG``, else the pod's own service
    account, else ``~/.kube/config``.

    Args:
        kubeconfig: path of a kubeconfig file, or its content.
        context: its context to use; without one, the file's current one.
        token: bearer token to authenticate with, instead of the file's user.
        host: the API's address, instead of a file; see `from_host` for this and the options below.
        ca_cert: for ``host``.
        client_cert: for ``host``.
        client_key: for ``host``.
        proxy: proxy to the API, as `connection.Proxy.find` takes it, before the file's own.

    Raises:
        ConfigError: there is no file, or it cannot be used; names the field.
    """
    access = _find_access(kubeconfig, context, token, host, ca_cert, client_cert, client_key)
    return replace(access, proxy=proxy) if proxy else access


def _find_access(
    kubeconfig: str | Path | Mapping[str, Any] | None,
    context: str | None,
    token: str | None,
    host: str | None,
    ca_cert: str | None,
    client_cert: str | None,
    client_key: str | None,
) -> ClusterAccess:
    token = credential(token, "api_key") if token else None
    if host:
        return from_host(host, token, ca_cert, client_cert, client_key)
    if isinstance(kubeconfig, Mapping):
        return _access([_File(Path("kubeconfig"), kubeconfig)], context, token)
    if kubeconfig:
        return from_files([Path(kubeconfig)], context, token)
    if paths := [expanded(part) for part in os.environ.get("KUBECONFIG", "").split(os.pathsep) if part]:
        # As kubectl does: of several, those that are missing do not count.
        return from_files([path for path in paths if path.exists()] or paths[:1], context, token)
    if "KUBERNETES_SERVICE_HOST" in os.environ and (SERVICE_ACCOUNT_DIR / "token").exists():
        return in_cluster(token)
    return from_files([Path("~/.kube/config")], context, token)


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
    if not token and not client_cert and not client_key:
        raise ConfigError("api_key, or client_cert and client_key, is missing: host needs credentials")
    context = tls_context(ca_cert or True)
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
                # What is not ASCII becomes a character that `credential` refuses.
                text = self.path.read_text(encoding="ascii", errors="replace")
            except (OSError, ValueError) as error:
                reason = getattr(error, "strerror", None) or "it is no path"
                raise ConfigError(f"{shown(self.path)}: {reason}; it should hold a token") from None
            self._token = credential(text, str(self.path))
            self._read_at = now
        return self._token


def from_files(paths: Sequence[Path], context: str | None = None, token: str | None = None) -> ClusterAccess:
    """Return access by kubeconfig files.

    Of each context, cluster and user, the first file that has it counts, as for kubectl: see
    https://kubernetes.io/docs/concepts/configuration/organize-cluster-access-kubeconfig/#merging-kubeconfig-files

    A user has a client certificate, a token, a token file or an exec plugin. A field that would change who asks, or
    whom, and is not supported, is refused by its name.

    Args:
        paths: the files, at least one.
        context: the context to use; without one, the current one.
        token: bearer token to authenticate with, instead of the context's user.

    Raises:
        ConfigError: a file cannot be used; names the field.
    """
    return _access([_File.load(expanded(path)) for path in paths], context, token)


def _access(files: Sequence[_File], context: str | None, token: str | None) -> ClusterAccess:
    name = context or next(filter(None, (file.content.get("current-context") for file in files)), None)
    if not name:
        raise ConfigError(f"{_named(files)}: has no current-context; name a context")
    _, chosen = _entry(files, "contexts", "context", str(name))
    cluster_file, cluster = _entry(files, "clusters", "cluster", str(chosen.get("cluster")))
    user: Mapping[str, Any] = {"token": token}
    user_file = files[0]
    if not token:
        user_file, user = _entry(files, "users", "user", str(chosen.get("user")))
    if "server" not in cluster:
        raise ConfigError(f"{cluster_file.path}: cluster {chosen['cluster']!r} has no server")
    cluster_file.refuse(cluster, _UNSUPPORTED_IN_CLUSTER, f"cluster {chosen['cluster']!r}")
    user_file.refuse(user, _UNSUPPORTED_IN_USER, f"user {chosen.get('user')!r}")
    tls = cluster_file.tls(cluster)
    has_certificate = user_file.present_client_cert(user, tls)
    authorization: Callable[[], str | None] | None = user_file.authorization(user)
    # As client-go: a plugin is run only for a user without other credentials (plugin/pkg/client/auth/exec/exec.go).
    if not authorization and not has_certificate and (plugin := user.get("exec")):
        from .execplugin import ExecPlugin

        where = f"{user_file.path}: exec of the user"
        for section in (plugin, *(checked(plugin, where).get("env") or ())):
            checked(section, where)
        cluster_info = cluster_file.exec_info(cluster) if plugin.get("provideClusterInfo") else None
        authorization = ExecPlugin(plugin, where, user_file.path.parent, tls, cluster_info)
    return ClusterAccess(
        str(cluster["server"]),
        tls,
        authorization,
        cluster.get("proxy-url"),
        cluster.get("tls-server-name") or None,
        _impersonation(user, f"{user_file.path}: user {chosen.get('user')!r}"),
    )


def _impersonation(user: Mapping[str, Any], where: str) -> dict[str, list[bytes]]:
    """Return the headers by which a user acts as another one, with the rights of that one alone.

    Source: https://kubernetes.io/docs/reference/access-authn-authz/authentication/#user-impersonation
    """
    extra = user.get("as-user-extra") or {}
    impersonation = {
        "Impersonate-User": [user.get("as") or ""],
        "Impersonate-Uid": [user.get("as-uid") or ""],
        "Impersonate-Group": user.get("as-groups") or [],
        **{f"Impersonate-Extra-{quote(str(name), safe=_TOKEN)}": values for name, values in extra.items()},
    }
    for header, values in impersonation.items():
        if not isinstance(values, list) or not all(isinstance(text, str) and text.isprintable() for text in values):
            raise ConfigError(f"{where}: for {header} allowed is text on one line, or a list of it")
    headers = {
        header: [text.encode() for text in values if text] for header, values in impersonation.items() if any(values)
    }
    if headers and "Impersonate-User" not in headers:
        raise ConfigError(f"{where}: as-uid, as-groups and as-user-extra need as")
    return headers


def _entry(files: Sequence[_File], section: str, kind: str, name: str) -> tuple[_File, Mapping[str, Any]]:
    """Return a context, cluster or user, and the first file that has it."""
    entries = [(file, entry) for file in files for entry in file.entries(section)]
    for file, entry in entries:
        if entry.get("name") == name:
            return file, checked(entry.get(kind) or {}, f"{file.path}: {kind} {name!r}")
    names = ", ".join(str(entry.get("name")) for _, entry in entries) or "none"
    raise ConfigError(f"{_named(files)}: {kind} {name!r} is missing; found {names}")


def checked(section: object, where: str) -> Mapping[str, Any]:
    """Return a section of a kubeconfig; raise ConfigError, without any value, if a field cannot be used."""
    if not isinstance(section, Mapping):
        raise ConfigError(f"{where} is not a mapping")
    for name, value in section.items():
        expected = _TYPES.get(name)
        if expected is None or value is None:
            continue
        if isinstance(expected, list) and not isinstance(value, list):
            raise ConfigError(f"{where}: {name} is of type {type(value).__name__}; allowed is a list")
        kind, items = (expected[0], value) if isinstance(expected, list) else (expected, [value])
        for item in items:
            if not isinstance(item, kind):
                raise ConfigError(f"{where}: {name} is of type {type(item).__name__}; allowed is {_ALLOWED[kind]}")
            if isinstance(item, str) and not "".join(item.split()).isprintable():
                raise ConfigError(f"{where}: {name} holds a character that cannot be printed")
    return section


def expanded(path: str | Path) -> Path:
    """Return a path with ``~`` replaced; one of an unknown user stays, and is then not found."""
    return Path(os.path.expanduser(path))  # noqa: PTH111 - Path.expanduser raises RuntimeError there


def _named(files: Sequence[_File]) -> str:
    return os.pathsep.join(str(file.path) for file in files)


@dataclass(frozen=True)
class _File:
    path: Path
    content: Mapping[str, Any] = field(repr=False)

    @classmethod
    def load(cls, path: Path) -> _File:
        from .. import safeyaml  # here, because a service in a pod has no kubeconfig

        try:
            text = path.read_bytes()
        except (OSError, ValueError) as error:
            # Not "from" the original, which quotes the path.
            reason = getattr(error, "strerror", None) or "it is no path"
            raise ConfigError(f"kubeconfig: {shown(path)}: {reason}; name a file, or set KUBECONFIG") from None
        try:
            content = safeyaml.load(text)
        except safeyaml.NotYaml as error:
            raise ConfigError(f"kubeconfig: {path} {error}") from None
        if not isinstance(content, dict):
            raise ConfigError(f"kubeconfig: {path} is not a kubeconfig file")
        return cls(path, content)

    def entries(self, section: str) -> Sequence[Mapping[str, Any]]:
        listed = self.content.get(section) or ()
        if not isinstance(listed, Sequence) or not all(isinstance(entry, Mapping) for entry in listed):
            raise ConfigError(f"{self.path}: {section} is not a list of mappings")
        return listed

    def tls(self, cluster: Mapping[str, Any]) -> ssl.SSLContext:
        option = f"{self.path}: certificate-authority of the cluster"
        if inline := cluster.get("certificate-authority-data"):
            # What is not ASCII is no part of a certificate, but perhaps of a comment beside it.
            pem = self._decoded(inline, "certificate-authority-data").decode("ascii", errors="ignore")
            return tls_context(ca_pem=pem or "-", option=option)  # an empty text would stand for the system's CAs
        if ca := cluster.get("certificate-authority"):
            return tls_context(self._resolved(ca), option=option)
        return tls_context()

    def present_client_cert(self, user: Mapping[str, Any], context: ssl.SSLContext) -> bool:
        """Have a context present the user's client certificate; return whether there is one."""
        cert, key = (self._pem(user, f"client-{name}") for name in ("certificate", "key"))
        where = f"{self.path}: client-certificate of the user", "client-key"
        return load_client_cert(context, cert, key, where)

    def refuse(self, section: Mapping[str, Any], unsupported: Mapping[str, str], where: str) -> None:
        for name, remedy in unsupported.items():
            if section.get(name):
                raise ConfigError(f"{self.path}: {where} has {name}, which is not supported", remedy=remedy)

    def authorization(self, user: Mapping[str, Any]) -> Callable[[], str] | None:
        if path := user.get("tokenFile"):
            token = MountedToken(self._resolved(path))
            return lambda: f"Bearer {token()}"
        if text := user.get("token"):
            bearer = credential(text, f"{self.path}: token of the user")
            return lambda: f"Bearer {bearer}"
        return None

    def exec_info(self, cluster: Mapping[str, Any]) -> dict[str, Any]:
        """Return the cluster info for KUBERNETES_EXEC_INFO, as the API's type ``Cluster``."""
        fields = ("server", "tls-server-name", "proxy-url")
        info = {name: cluster[name] for name in fields if cluster.get(name)}
        if inline := cluster.get("certificate-authority-data"):
            info["certificate-authority-data"] = inline
        elif ca := cluster.get("certificate-authority"):
            try:
                pem = Path(self._resolved(ca)).read_bytes()
            except OSError as error:
                raise ConfigError(f"{self.path}: certificate-authority of the cluster: {error.strerror}") from error
            info["certificate-authority-data"] = base64.b64encode(pem).decode()
        for extension in cluster.get("extensions") or ():
            if extension.get("name") == "client.authentication.k8s.io/exec":
                info["config"] = extension.get("extension")
        return info

    def _pem(self, user: Mapping[str, Any], name: str) -> str | bytes | None:
        if inline := user.get(f"{name}-data"):
            return self._decoded(inline, f"{name}-data")
        path = user.get(name)
        return self._resolved(path) if path else None

    def _decoded(self, text: str, name: str) -> bytes:
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except (binascii.Error, ValueError):
            raise ConfigError(f"{self.path}: {name} is not base64") from None

    def _resolved(self, path: str) -> str:
        """Return a path; a relative one is resolved against the file's folder, as kubectl does."""
        return str(self.path.parent / Path(path))
