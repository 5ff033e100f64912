"""The part of the Kubernetes API that KUBEVAULT needs: Secrets, ConfigMaps, TokenRequest, Leases, workloads, RBAC.

Objects are JSON dicts, as the API returns and accepts them.
Source: https://kubernetes.io/docs/reference/generated/kubernetes-api/v1.36/
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any, Literal, TypeVar
from urllib.parse import quote, urlencode

from ..errors import (
    ConflictError,
    Forbidden,
    KubernetesError,
    KubernetesUnavailable,
    SecretNotFound,
    frameless,
)
from .http import (
    ANSWER,
    ELECTION_TIMEOUT,
    AnswerTooLarge,
    ConnectionFailed,
    JsonApi,
    Parsed,
    Response,
    Stream,
    understood,
)
from .kubeconfig import ClusterAccess, find_access

PAGE = 500
"""Objects that one page of a list has at most, as with kubectl's ``--chunk-size``."""

PAGE_BYTES = 4 * 1024 * 1024
"""Bytes above which a page of several objects is not read to its end; fewer are asked for instead.

Who may create Secrets could fill a page of 500 with 700 MB. What ordinary ones have fits: 8 KiB each.
"""

FIELD_MANAGER = "kubevault"
"""Who wrote a field, in a Secret's ``managedFields``."""

TERMINATING = "because it is being terminated"
"""How Kubernetes says that a namespace takes no new objects since it is being deleted."""

STREAM_GRACE = 10
"""Time that the server may take to end a watch after its timeout, in seconds; then the connection counts as lost."""

Object = dict[str, Any]
Answered = TypeVar("Answered", Response, Stream)
Resource = Literal[
    "secrets",
    "configmaps",
    "serviceaccounts",
    "pods",
    "events",
    "leases",
    "deployments",
    "statefulsets",
    "daemonsets",
    "roles",
    "rolebindings",
    "clusterroles",
    "clusterrolebindings",
]

_GROUPS: Mapping[str, str] = {
    "leases": "apis/coordination.k8s.io/v1",
    **dict.fromkeys(("deployments", "statefulsets", "daemonsets"), "apis/apps/v1"),
    **dict.fromkeys(
        ("roles", "rolebindings", "clusterroles", "clusterrolebindings"), "apis/rbac.authorization.k8s.io/v1"
    ),
}
"""API group and version of resources that are not of the core."""

_OF_CLUSTER = ("clusterroles", "clusterrolebindings")
"""Resources that are in no namespace."""

QUOTA_LAG = 30.0
"""How long a quota may count what is deleted, in seconds."""


@frameless
class KubernetesClient:
    """A client of one Kubernetes API. Threads may share it.

    Args:
        find: finds address and credentials; called again if the API does not accept the credentials, or its
            certificate is not trusted, since the files that hold them may have been renewed.
        timeout: time that one request may take, with its whole response, in seconds.
        connections: how many connections are kept alive.
        retries: how often a request is repeated that may succeed later.
        election_timeout: how long it is repeated while etcd has no leader, in seconds.

    Raises:
        ConfigError: as ``find``, or the address or proxy cannot be used.
    """

    def __init__(
        self,
        find: Callable[[], ClusterAccess],
        *,
        timeout: float = 30.0,
        connections: int = 10,
        retries: int = 4,
        election_timeout: float = ELECTION_TIMEOUT,
    ) -> None:
        self._find = find
        self._access = access = find()
        self._api = JsonApi(
            access.url,
            option="kubeconfig's server",
            context=access.context,
            renewed=self._found_again,
            timeout=timeout,
            connections=connections,
            retries=retries,
            election_timeout=election_timeout,
            recovers=_recovers,
            server_name=access.server_name,
            proxy=access.proxy,
            proxy_option="proxy, or the kubeconfig's proxy-url",
        )
        self.url = self._api.url

    @classmethod
    def from_kubeconfig(
        cls,
        kubeconfig: str | Path | Mapping[str, Any] | None = None,
        context: str | None = None,
        token: str | None = None,
        *,
        proxy: str | None = None,
        **options: Any,
    ) -> KubernetesClient:
        """Return a client for the API that `kubeconfig.find_access` finds, with its arguments; options as of the class.

        Raises:
            ConfigError: no kubeconfig, or one that cannot be used.
        """
        return cls(partial(find_access, kubeconfig, context, token, proxy=proxy), **options)

    @classmethod
    def from_options(cls, options: Mapping[str, Any], **arguments: Any) -> KubernetesClient:
        """Return a client for options that have the names of `options.KUBERNETES`.

        Args:
            options: the options; None counts as not given.
            arguments: further arguments of the class.

        Raises:
            ConfigError: there is no kubeconfig file, or an option cannot be used.
        """
        names = ("kubeconfig", "context", "host", "ca_cert", "client_cert", "client_key", "proxy")
        by_name = {name: options.get(name) for name in names}
        if (election_timeout := options.get("election_timeout")) is not None:
            arguments.setdefault("election_timeout", election_timeout)
        return cls(partial(find_access, token=options.get("api_key"), **by_name), **arguments)

    def create_token(
        self, namespace: str, service_account: str, audience: str | None, expiration_seconds: int = 600
    ) -> str:
        """Have Kubernetes issue a token of a service account.

        Source: https://kubernetes.io/docs/reference/kubernetes-api/authentication-resources/token-request-v1/

        Args:
            namespace: the service account's namespace.
            service_account: its name.
            audience: audience of the token; None for the API server itself.
            expiration_seconds: its lifetime; the API allows no less than 600.

        Raises:
            SecretNotFound: there is no such service account.
            Forbidden: RBAC lacks ``create`` on ``serviceaccounts/token``.
        """
        spec: Object = {"expirationSeconds": expiration_seconds}
        if audience is not None:
            spec["audiences"] = [audience]
        body = {"apiVersion": "authentication.k8s.io/v1", "kind": "TokenRequest", "spec": spec}
        response = self._call(
            "POST",
            f"/api/v1/namespaces/{quote(namespace, safe='')}/serviceaccounts/{quote(service_account, safe='')}/token",
            f"service account {namespace}/{service_account}",
            body,
        )
        return self._understood(response, lambda: str(response.json()["status"]["token"]))

    def get_secret(self, namespace: str, name: str) -> Object:
        """Return a Secret.

        Raises:
            SecretNotFound: it does not exist.
            Forbidden: RBAC lacks ``get``.
        """
        return self.get("secrets", namespace, name)

    def get(self, resource: Resource, namespace: str, name: str) -> Object:
        """Return an object of any of these kinds; raises as `get_secret`."""
        response = self._call("GET", _path(namespace, resource, name), f"{namespace}/{name}")
        return self._understood(response, lambda: _stored(response.json()))

    def watch(
        self, resource: Resource, namespace: str, name: str, resource_version: str | None = None, seconds: int = 300
    ) -> Events:
        """Watch one object.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#efficient-detection-of-changes

        Args:
            resource: its kind.
            namespace: its namespace.
            name: its name.
            resource_version: report changes after this version; without one, the current object comes first.
            seconds: how long the server keeps the watch open.

        Raises:
            Forbidden: RBAC lacks ``watch``.
        """
        query = {"watch": "1", "fieldSelector": f"metadata.name={name}", "timeoutSeconds": str(seconds)}
        if resource_version is not None:
            query["resourceVersion"] = resource_version
        path = f"{_path(namespace, resource)}?{urlencode(query)}"
        place = f"{namespace}/{name}"
        try:
            # The server ends the watch; if it does not, the connection is lost.
            stream = self._as_known(
                lambda headers: self._api.stream(path, headers=headers, timeout=seconds + STREAM_GRACE)
            )
            if stream.status != 200 or not stream.is_json:
                raise self._refusal(stream.read(), place)
        except ConnectionFailed as error:
            raise self._unavailable(error) from error
        return Events(self, stream, place)

    def list_secrets(self, namespace: str | None = None, label_selector: str | None = None) -> Iterator[Object]:
        """Yield the Secrets of a namespace, or of all namespaces, without ``managedFields``.

        They are fetched page by page. What the caller drops is not kept: their size is up to those who write them.

        Raises:
            Forbidden: RBAC lacks ``list``.
        """
        for secret in self.list_objects("secrets", namespace, label_selector):
            secret["metadata"].pop("managedFields", None)
            yield secret

    def require_namespace(self, namespace: str) -> None:
        """Check that a namespace is there, as far as the caller may know: a list of what is in none is empty.

        Raises:
            SecretNotFound: there is no such namespace.
            KubernetesUnavailable: the API cannot be reached.
        """
        with contextlib.suppress(Forbidden):
            self._read_namespace(namespace)

    def list_objects(
        self,
        resource: Resource,
        namespace: str | None = None,
        label_selector: str | None = None,
        field_selector: str | None = None,
    ) -> Iterator[Object]:
        """Yield the objects of one kind, as `list_secrets`."""
        selectors = {"labelSelector": label_selector, "fieldSelector": field_selector}
        yield from self._pages(resource, namespace, {name: text for name, text in selectors.items() if text})

    def list_names(self, namespace: str | None = None) -> Iterator[tuple[str, str]]:
        """Yield namespace and name of the Secrets of a namespace, or of all namespaces; the API sends no values.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#metadata-only-fetches

        Raises:
            Forbidden: RBAC lacks ``list``.
        """
        metadata_only = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
        for item in self._pages("secrets", namespace, {}, accept=metadata_only):
            yield item["metadata"]["namespace"], item["metadata"]["name"]

    # A write may be repeated after a lost response: if the first one took effect, the second is a ConflictError.

    def create_secret(self, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Create a Secret.

        Args:
            namespace: its namespace.
            body: the Secret.
            dry_run: have the API validate the request without persisting it.

        Raises:
            ConflictError: a Secret of this name exists.
            SecretNotFound: the namespace does not exist.
        """
        return self._write("POST", _path(namespace, "secrets"), namespace, body, dry_run=dry_run)

    def update_secret(self, namespace: str, body: Mapping[str, Any], *, dry_run: bool = False) -> Object:
        """Replace a Secret, if its ``resourceVersion`` is still the one in the body; arguments as `create_secret`.

        Raises:
            ConflictError: another writer changed it in between.
            SecretNotFound: it no longer exists.
        """
        return self._write(
            "PUT", _path(namespace, "secrets", body["metadata"]["name"]), namespace, body, dry_run=dry_run
        )

    def delete_secret(self, namespace: str, found: Mapping[str, Any], *, dry_run: bool = False) -> None:
        """Delete a Secret, if it is still as found; arguments as `create_secret`.

        Raises:
            ConflictError: another writer changed it in between.
            SecretNotFound: it no longer exists.
        """
        metadata = found["metadata"]
        # If there is a body, the API reads all options from it, and none from the query.
        options: Object = {
            "apiVersion": "v1",
            "kind": "DeleteOptions",
            "preconditions": {"uid": metadata["uid"], "resourceVersion": metadata["resourceVersion"]},
        }
        if dry_run:
            options["dryRun"] = ["All"]
        path = _path(namespace, "secrets", metadata["name"])
        self._call("DELETE", path, f"{namespace}/{metadata['name']}", options)

    def merge(
        self, resource: Resource, namespace: str, name: str, patch: Mapping[str, Any], *, dry_run: bool = False
    ) -> Object:
        """Change some fields of an object by a JSON merge patch; return the object as it is then.

        Source: https://kubernetes.io/docs/reference/using-api/api-concepts/#patch-and-apply

        Args:
            resource: its kind.
            namespace: its namespace.
            name: its name.
            patch: the fields. With ``metadata.resourceVersion`` among them, only if that is still the object's.
            dry_run: have the API validate the request without persisting it.

        Raises:
            ConflictError: another writer changed it in between.
            SecretNotFound: it does not exist.
            Forbidden: RBAC lacks ``patch``.
        """
        path = f"{_path(namespace, resource, name)}?{_write_query(dry_run=dry_run)}"
        headers = {"Content-Type": "application/merge-patch+json"}
        response = self._call("PATCH", path, f"{namespace}/{name}", patch, headers=headers)
        return self._understood(response, lambda: _stored(response.json()))

    def get_lease(self, namespace: str, name: str) -> Object:
        """Return a Lease; raises as `get_secret`.

        Source: https://kubernetes.io/docs/reference/kubernetes-api/cluster-resources/lease-v1/
        """
        return self.get("leases", namespace, name)

    def put_lease(self, namespace: str, body: Mapping[str, Any]) -> Object:
        """Replace a Lease if its ``resourceVersion`` is still the one in the body; without one, create it.

        The API creates Leases by PUT too. Unlike POST, that lets RBAC limit ``create`` by ``resourceNames``.

        Raises:
            ConflictError: another writer changed or created it in between.
            SecretNotFound: the namespace does not exist.
        """
        path = _path(namespace, "leases", body["metadata"]["name"])
        try:
            return self._write("PUT", path, namespace, body, dry_run=False)
        except KubernetesError as error:
            # So the API refuses an update without a version.
            if error.status == 422 and "must be specified for an update" in str(error):
                raise ConflictError(str(error), status=error.status, reason=error.reason, place=error.place) from error
            raise

    def close(self) -> None:
        """Close all connections."""
        self._api.close()

    def _pages(
        self, resource: Resource, namespace: str | None, query: Mapping[str, str], accept: str | None = None
    ) -> Iterator[Object]:
        path = _path(namespace, resource)
        headers = {"Accept": accept} if accept else {}
        limit, token = PAGE, ""
        while True:
            # A token holds where the list goes on, and not how many objects a page has.
            page_query = {"limit": str(limit), **query, **({"continue": token} if token else {})}
            size = PAGE_BYTES if limit > 1 else ANSWER
            page = self._page(f"{path}?{urlencode(page_query)}", namespace, _names_of(resource), headers, size)
            if page is None:
                limit = max(1, limit // _FEWER)
                continue
            limit, token = page.next_limit(limit), page.token
            while page.items:
                yield page.items.popleft()
            if not token:
                return

    def _page(
        self,
        path: str,
        namespace: str | None,
        names: Sequence[str],
        headers: Mapping[str, str],
        size: int,
    ) -> _Page | None:
        """Return one page; None if one of several objects is larger than its size, in bytes."""
        place = namespace or "all namespaces"
        try:
            response = self._call("GET", path, place, headers=headers, allowed=(410,), size=size)
        except KubernetesUnavailable as error:
            if not isinstance(error.__cause__, AnswerTooLarge) or size == ANSWER:
                raise
            return None
        if response.status == 410:
            return _Page(deque(), self._renewed_token(response, place), 0)
        return self._understood(response, partial(_parsed, response, names))

    def _renewed_token(self, response: Response, place: str) -> str:
        """Return the token with which a list goes on whose own one has expired, by what is stored now.

        A token lasts for 5 to 10 minutes, until etcd has dropped the state that the list began with.

        Source: https://kubernetes.io/docs/reference/kubernetes-api/common-parameters/common-parameters/#continue
        """
        renewed = self._understood(response, lambda: response.json()["metadata"].get("continue"))
        if not renewed:
            raise self._refusal(response, place)
        return str(renewed)

    def _write(self, method: str, path: str, namespace: str, body: Mapping[str, Any], *, dry_run: bool) -> Object:
        place = f"{namespace}/{body['metadata']['name']}"
        try:
            response = self._call(method, f"{path}?{_write_query(dry_run=dry_run)}", place, body)
        except Forbidden as error:
            if TERMINATING in error.message:
                error.message += self._what_holds(namespace)
            raise
        return self._understood(response, lambda: _stored(response.json()))

    def _what_holds(self, namespace: str) -> str:
        """Say what holds a namespace that is being deleted; nothing if the caller may not read that."""
        try:
            response = self._read_namespace(namespace)
            return self._understood(response, lambda: _holders(response.json()))
        except KubernetesError:
            return ""

    def _read_namespace(self, namespace: str) -> Response:
        return self._call("GET", f"/api/v1/namespaces/{quote(namespace, safe='')}", namespace)

    def _call(
        self,
        method: str,
        path: str,
        place: str,
        body: Mapping[str, Any] | None = None,
        *,
        headers: Mapping[str, str] = MappingProxyType({}),
        allowed: Sequence[int] = (),
        size: int = ANSWER,
    ) -> Response:
        """Send one request; return the response if it is the API's, and no refusal but of an allowed status."""
        try:
            response = self._as_known(
                lambda known: self._api.request(method, path, body, headers=known | {**headers}, size=size)
            )
        except ConnectionFailed as error:
            raise self._unavailable(error) from error
        if not response.ok and response.status not in allowed:
            raise self._refusal(response, place)
        if not response.is_object:
            raise self._foreign(response)
        return response

    def _as_known(self, send: Callable[[dict[str, Any]], Answered]) -> Answered:
        """Send a request with the user's credentials; if they are refused, once more with what the files hold now."""
        access = self._access
        answer = send(_headers(access))
        if answer.status == 401:
            if isinstance(answer, Stream):
                answer.close()
            self._api.renew(access.context)
            answer = send(_headers(self._access))
        return answer

    def _found_again(self) -> ssl.SSLContext:
        self._access = self._find()
        _headers(self._access)  # an exec plugin may have a client certificate
        return self._access.context

    def _understood(self, response: Response, parse: Callable[[], Parsed]) -> Parsed:
        """Return what a function takes from a response; a form that is not the API's raises KubernetesUnavailable."""
        return understood(parse, lambda: self._foreign(response))

    def _refusal(self, response: Response, place: str) -> KubernetesError:
        """Translate a ``Status`` (https://kubernetes.io/docs/reference/kubernetes-api/common-definitions/status/)."""
        status = response.json()
        if status.get("kind") != "Status":
            return self._foreign(response)
        kind, remedy = _REFUSALS.get(response.status, (KubernetesError, None))
        if _recovers(response):
            kind, remedy = KubernetesUnavailable, "wait until the API is ready, and etcd has a leader"
        # One line, also of a webhook or a policy that wrote several.
        message = " ".join(str(status.get("message") or f"HTTP status {response.status}").split())
        if response.status == 403:
            remedy = next((advice for words, advice in _FORBIDDEN.items() if re.search(words, message)), remedy)
        return kind(
            message,
            status=response.status,
            reason=str(status.get("reason") or ""),
            place=place,
            remedy=remedy,
        )

    def _foreign(self, response: Response) -> KubernetesError:
        message, remedy = response.foreign("the Kubernetes API")
        # A proxy in front of the API may know its users.
        kinds = {401: Forbidden, 413: KubernetesError}
        return kinds.get(response.status, KubernetesUnavailable)(
            message, status=response.status, place=self.url, remedy=remedy
        )

    def _unavailable(self, error: ConnectionFailed) -> KubernetesUnavailable:
        return KubernetesUnavailable(
            f"no response from the Kubernetes API: {error}",
            place=self.url,
            remedy=error.remedy or "check the address, and that the API server is running",
        )


@frameless
class Events:
    """The events of a watch, each its kind ("ADDED", "MODIFIED", "DELETED") and the object; they end with the watch.

    Raises, while iterating:
        KubernetesUnavailable: the connection was lost.
        KubernetesError: the server ended the watch, as with status 410 if the version is too old.
    """

    def __init__(self, client: KubernetesClient, stream: Stream, place: str) -> None:
        self._client = client
        self._stream = stream
        self._place = place

    def __iter__(self) -> Iterator[tuple[str, Object]]:
        """Yield the events."""
        try:
            for line in self._stream:
                kind, event = self._client._understood(self._stream.response(line), partial(_event, line))
                if kind == "ERROR":
                    status = Response(int(event.get("code", 500)), json.dumps(event).encode())
                    raise self._client._refusal(status, self._place)
                yield kind, event
        except ConnectionFailed as error:
            raise self._client._unavailable(error) from error

    def close(self) -> None:
        """End the watch; another thread that iterates stops."""
        self._stream.close()


def _path(namespace: str | None, resource: str, name: str | None = None) -> str:
    """Return the path of an object, or without its name of a list; without a namespace, of all namespaces."""
    within = f"namespaces/{quote(namespace, safe='')}/" if namespace else ""
    path = f"/{_GROUPS.get(resource, 'api/v1')}/{within}{resource}"
    return f"{path}/{quote(name, safe='')}" if name else path


def _write_query(*, dry_run: bool) -> str:
    return urlencode({"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})})


def _headers(access: ClusterAccess) -> dict[str, Any]:
    authorization = access.authorization() if access.authorization else None
    return {**access.impersonation, **({"Authorization": authorization} if authorization else {})}


def _names_of(resource: str) -> Sequence[str]:
    """Return what of an object's metadata says which one of its kind it is."""
    return ("name",) if resource in _OF_CLUSTER else ("namespace", "name")


_FEWER = 8
"""By what the number of objects is divided after a page of too many bytes."""


@dataclass(frozen=True)
class _Page:
    """A page of a list.

    Attributes:
        items: its objects.
        token: the token of the next page; empty if there is none.
        size: its bytes.
    """

    items: deque[Object]
    token: str
    size: int

    def next_limit(self, limit: int) -> int:
        """Return how many objects to ask for next, so that they have three quarters of the bytes, if they are alike."""
        if not self.items:
            return limit
        return max(1, min(PAGE, 2 * limit, 3 * PAGE_BYTES * len(self.items) // (4 * self.size)))


def _parsed(response: Response, names: Sequence[str]) -> _Page:
    page = response.json()
    items = deque(_stored(item, names) for item in page["items"] or ())
    return _Page(items, str(page["metadata"].get("continue") or ""), len(response.body))


def _event(line: bytes) -> tuple[str, Object]:
    event = json.loads(line)
    return str(event["type"]), dict(event["object"])


def _stored(stored: Object, names: Sequence[str] = ("namespace", "name")) -> Object:
    """Return an object as the API stores it; of another form, it raises KeyError or TypeError."""
    if not all(isinstance(stored["metadata"][name], str) for name in names):
        raise TypeError
    if not all(isinstance(value, str) for value in (stored.get("data") or {}).values()):
        raise TypeError
    return stored


_NO_LEADER = (
    "leader changed",
    "no leader",
    "not leader",
    "request timed out",
    "unhealthy cluster",
    "server stopped",
    "code = unavailable",
    "storage is (re)initializing",
    "context deadline exceeded",
)
"""What the API says with status 429 or 500 while etcd has no leader or is out of reach, or while it starts itself.

Sources: https://pkg.go.dev/go.etcd.io/etcd/api/v3/v3rpc/rpctypes, and ``storage/cacher`` of k8s.io/apiserver.
"""


def _recovers(response: Response) -> bool:
    """Whether etcd has no leader, the API starts, or what is in front of it has none: waiting may end that."""
    if response.status in (429, 500):
        message = str(response.json().get("message")).lower()
        return "webhook" not in message and any(words in message for words in _NO_LEADER)
    return response.status in (502, 503, 504)


_REFUSALS: dict[int, tuple[type[KubernetesError], str]] = {
    401: (Forbidden, "the API does not know the caller: check the kubeconfig's user, or its token"),
    403: (Forbidden, "an admission control of the cluster refused it: change the request, or the control"),
    404: (SecretNotFound, "check name and namespace"),
    409: (ConflictError, "try again"),
    413: (KubernetesError, "divide it: Kubernetes takes Secrets of 1 MiB, and requests of 3 MiB"),
    429: (KubernetesUnavailable, "send fewer requests, or wait"),
}

_FORBIDDEN = {
    r" is forbidden: User \"[^\"]*\" cannot create resource \"serviceaccounts/token\" ": (
        "in a pod, mount a projected token for Vault (docs/pods.md); elsewhere, grant it by RBAC: to a workload of the"
        " inventory by token_request: true"
    ),
    r" is forbidden: User \"[^\"]*\" cannot ": "grant it by RBAC",
    TERMINATING: "wait until the namespace is gone, and create it again",
    "exceeded quota": "raise the namespace's quota, or delete what is not needed",
}
"""What to do about a 403, by the words of who refused: the authorizer, which is RBAC's, and the admission controls
NamespaceLifecycle and ResourceQuota. Others, such as webhooks and policies, have words of their own.

Source: ``forbiddenMessage`` in ``endpoints/handlers/responsewriters`` of k8s.io/apiserver.
"""


def _holders(namespace: Object) -> str:
    """Return the finalizers of a namespace, and what its conditions say of what remains in it."""
    finalizers = [*(namespace["metadata"].get("finalizers") or ()), *(namespace["spec"].get("finalizers") or ())]
    remaining = [
        condition["message"]
        for condition in namespace["status"].get("conditions") or ()
        if condition["type"].endswith("Remaining") and condition["status"] == "True"
    ]
    return "; ".join([f" (finalizers: {', '.join(finalizers) or 'none'}", *remaining]) + ")"


def is_quota_exceeded(error: Forbidden) -> bool:
    """Whether a quota of the namespace refused a request."""
    return "exceeded quota" in error.message


def check_return(kubernetes: KubernetesClient, namespace: str, body: Mapping[str, Any]) -> None:
    """Have the API say whether a Secret could be created again, before the one of its name is deleted.

    A dry run of the creation passes validation, webhooks, policies and quotas before it meets the name that is taken.

    Args:
        kubernetes: client that may create Secrets.
        namespace: its namespace.
        body: the Secret.

    Raises:
        Forbidden: RBAC, a policy, or a quota that is exceeded even without the Secret that is to be deleted.
        KubernetesError: its content is not valid, or a webhook refuses it.
    """
    try:
        kubernetes.create_secret(namespace, body, dry_run=True)
    except ConflictError:
        pass
    except Forbidden as error:
        amounts = re.findall(r"(used|limited): (?:count/)?secrets=(\d+)", error.message)
        if not is_quota_exceeded(error) or _more_than_allowed(amounts):
            raise


def _more_than_allowed(amounts: Sequence[tuple[str, str]]) -> bool:
    """Whether a quota's limit was lowered below what is used: then a deletion alone makes no room."""
    sums = {word: int(number) for word, number in amounts}
    return sums.get("used", 0) > sums.get("limited", 0)


def create_again(
    kubernetes: KubernetesClient, namespace: str, body: Mapping[str, Any], patience: float = QUOTA_LAG
) -> Object:
    """Create a Secret after the one before was deleted, which a quota of the namespace counts for a while still.

    Args:
        kubernetes: client that may create Secrets.
        namespace: its namespace.
        body: the Secret.
        patience: how long a refusal by a quota is no reason to give up, in seconds.

    Raises:
        Forbidden: the quota still refuses it, or RBAC does.
        ConflictError, SecretNotFound: as `KubernetesClient.create_secret`.

    Source: https://kubernetes.io/docs/concepts/policy/resource-quotas/
    """
    deadline, pause = time.monotonic() + patience, 0.1
    while True:
        try:
            return kubernetes.create_secret(namespace, body)
        except Forbidden as error:
            if not is_quota_exceeded(error) or time.monotonic() > deadline:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 2.0)
