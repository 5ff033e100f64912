"""The connection options, in one table: every way in (client, command, Ansible) has its options from here.

`commands.options` takes the options of the command from it. Ansible reads its options before it can import this
package, so ``make options`` writes ``plugins/module_utils/kubevault_options.py`` and the documentation fragments from
it. `config.Config` is checked against it by a test: a service that reads does not pay for the import. A new option is
one line here, ``make options``, and its use in `login.methods` or the clients.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal, NamedTuple

from .errors import ConfigError
from .servers.connection import ENVIRONMENT
from .servers.http import ELECTION_TIMEOUT

Place = Literal["module", "lookup"]


class Option(NamedTuple):
    """One connection option.

    Attributes:
        name: its name in Ansible's modules and the lookup plugin.
        help: what it is, in one sentence that the command shows too.
        notes: further sentences for Ansible's documentation.
        type: its type, as Ansible names it.
        default: its default value.
        choices: the values that are allowed; empty if all are.
        aliases: further names in Ansible.
        variables: environment variables for it; the first that is set counts. See `with_variables`.
        hashi: the part after ``ANSIBLE_HASHI_VAULT_`` of community.hashi_vault's variable, which Ansible's modules and
            the lookup plugin read too.
        address: whether it names a server.
        trust: whether it says who is trusted, which may be the same for several servers.
        yields_to: options that say the same in another way; if one of them is given, its variables do not count.
        secret: whether its value is a secret: Ansible does not log it, and the command does not take it as an argument,
            which other users of the machine could read.
        credential: whether it serves to log in, so that it is not passed on to other programs: a file of a secret, for
            example; a secret is one in any case.
        config: its name in `config.Config`; None if the client has no such option.
        flag: its name in the command; None if the command has no such option.
        metavar: form of the value in the command's help.
        places: where Ansible has it.
    """

    name: str
    help: str
    notes: tuple[str, ...] = ()
    type: Literal["str", "path", "float", "bool", "raw"] = "str"
    default: str | float | bool | None = None
    choices: tuple[str, ...] = ()
    aliases: tuple[str, ...] = ()
    variables: tuple[str, ...] = ()
    hashi: str | None = None
    address: bool = False
    trust: bool = False
    yields_to: tuple[str, ...] = ()
    secret: bool = False
    credential: bool = False
    config: str | None = None
    flag: str | None = None
    metavar: str | None = None
    places: tuple[Place, ...] = ("module", "lookup")

    @property
    def others(self) -> tuple[str, ...]:
        """Variables of other tools that Ansible's modules and the lookup plugin read too."""
        return (f"ANSIBLE_HASHI_VAULT_{self.hashi}",) if self.hashi else ()


# fmt: off
VAULT_CONNECTION = (
    Option("vault_url", "Address of Vault, as https://vault.example.org:8200.", address=True, aliases=("url",),
           notes=("Several addresses, separated by commas, are tried in turn.",),
           variables=("VAULT_ADDR",), hashi="ADDR", config="vault_url", flag="--vault-url"),
    Option("vault_ca_cert", "PEM file of the CA that signed Vault's certificate; the system's CAs by default.",
           type="path", notes=("The certificate is always verified.",), aliases=("vault_cacert",),
           variables=("VAULT_CACERT",), hashi="CA_CERT", trust=True,
           yields_to=("vault_ca_path",), config="ca_cert", flag="--vault-ca-cert"),
    Option("vault_ca_path", "Folder of PEM files of CAs, instead of one file.", type="path",
           variables=("VAULT_CAPATH",), trust=True, yields_to=("vault_ca_cert",), config="ca_path",
           flag="--vault-ca-path"),
    Option("vault_client_cert", "PEM file of a client certificate, for a Vault that requires one.", type="path",
           credential=True, variables=("VAULT_CLIENT_CERT",), config="vault_client_cert", flag="--vault-client-cert"),
    Option("vault_client_key", "PEM file of that certificate's key.", type="path",
           credential=True, variables=("VAULT_CLIENT_KEY",), config="vault_client_key", flag="--vault-client-key"),
    Option("vault_tls_server_name", "Name that Vault's certificate must hold, if not that of its address.",
           variables=("VAULT_TLS_SERVER_NAME",), config="vault_tls_server_name", flag="--vault-tls-server-name"),
    Option("vault_proxy", "HTTP proxy to Vault, as http://proxy.example.org:3128.", secret=True,
           notes=(f"With V({ENVIRONMENT}), E(HTTPS_PROXY) and E(NO_PROXY) are used. Without it there is no proxy.",),
           variables=("VAULT_PROXY_ADDR",), config="vault_proxy", flag="--vault-proxy"),
    Option("vault_loopback_http", "Whether vault_url may be http:// for a Vault Agent or Proxy on this machine.",
           type="bool", default=False,
           notes=("Only addresses of loopback are allowed, such as C(http://127.0.0.1:8200) or C(http://localhost:8200).",
                  "They are reached without a proxy."),
           config="vault_loopback_http", flag="--vault-loopback-http"),
    Option("vault_namespace", "Vault namespace (Enterprise, OpenBao).",
           variables=("VAULT_NAMESPACE",), hashi="NAMESPACE", config="vault_namespace", flag="--vault-namespace"),
    Option("vault_timeout", "Time that one request may take, in seconds.", type="float", default=30.0,
           config="timeout", flag="--vault-timeout"),
    Option("election_timeout", "How long a request is repeated while Vault or etcd has no leader, in seconds.",
           type="float", default=ELECTION_TIMEOUT, config="election_timeout", flag="--election-timeout"),
)
"""How Vault is reached."""

VAULT_LOGIN = (
    Option("vault_auth_method", "How to log in to Vault.", default="token",
           notes=("V(token) uses a token that exists; the others get one, which is revoked in the end.",),
           choices=("kubernetes", "approle", "gcp", "token"), aliases=("auth_method",),
           variables=("KUBEVAULT_AUTH_METHOD",), hashi="AUTH_METHOD", yields_to=("vault_token", "vault_token_file"),
           config="auth", flag="--auth-method"),
    Option("vault_auth_mount", "Path at which the auth method is mounted, if not at its own name.",
           aliases=("mount_point",), hashi="MOUNT_POINT", yields_to=("vault_auth_method",),
           config="auth_mount", flag="--auth-mount"),
    Option("vault_token", "Token, for auth method token.", secret=True, aliases=("token",),
           variables=("VAULT_TOKEN",), hashi="TOKEN", yields_to=("vault_token_file",), config="vault_token"),
    Option("vault_token_file", "File that holds the token; without it and $VAULT_TOKEN, ~/.vault-token.", type="path",
           notes=("O(vault_token) is used before it.",), yields_to=("vault_token",),
           credential=True, variables=("VAULT_TOKEN_FILE",), hashi="TOKEN_FILE", config="vault_token_file",
           flag="--token-file"),
    Option("vault_role", "Role of Vault, for auth methods kubernetes and gcp.",
           variables=("KUBEVAULT_ROLE",), config="role", flag="--role"),
    Option("vault_jwt", "Token of a service account, for auth method kubernetes.", secret=True, aliases=("jwt",),
           notes=("Without it, the token that Kubernetes mounts into a pod is used.",), hashi="JWT",
           yields_to=("service_account",)),
    Option("service_account", "Service account that Kubernetes issues a token of, for auth method kubernetes; without"
           " it the pod's own.", metavar="NAMESPACE/NAME", flag="--service-account", places=("lookup",)),
    Option("audience", "Audience of that token.", default="vault",
           config="audience", flag="--audience", places=("lookup",)),
    Option("vault_role_id", "Role ID, for auth method approle.", aliases=("role_id",),
           credential=True, variables=("VAULT_ROLE_ID",), hashi="ROLE_ID",
           yields_to=("vault_role_id_file",), config="role_id", flag="--role-id"),
    Option("vault_role_id_file", "File that holds the role ID.", type="path",
           config="role_id_file", flag="--role-id-file"),
    Option("vault_secret_id", "Secret ID, for auth method approle.", secret=True, aliases=("secret_id",),
           notes=("A role with C(bind_secret_id=false) needs none.",),
           variables=("VAULT_SECRET_ID",), hashi="SECRET_ID", yields_to=("vault_secret_id_file",), config="secret_id"),
    Option("vault_secret_id_file", "File that holds the secret ID; without it $VAULT_SECRET_ID.", type="path",
           config="secret_id_file", flag="--secret-id-file"),
    Option("vault_secret_id_wrapped", "Whether the secret ID is a response-wrapping token, which is unwrapped once.",
           type="bool", default=False, config="secret_id_wrapped", flag="--secret-id-wrapped"),
    Option("vault_gcp_credentials_file", "JSON key file of a Google service account, for auth method gcp; without it"
           " the account that Google's metadata server knows.", type="path",
           config="gcp_credentials_file", flag="--gcp-credentials-file"),
)
"""Who logs in to Vault; `login.methods.Credentials` has the same options."""

TRANSIT = (
    Option("transit_mount", "Path at which the Transit engine is mounted.", default="transit",
           config="transit_mount", flag="--transit-mount"),
)

KUBERNETES = (
    Option("kubeconfig", "Kubeconfig file; without it $KUBECONFIG, a pod's own service account, ~/.kube/config.",
           type="raw", notes=("Its content, as a dict, is allowed too.",), variables=("K8S_AUTH_KUBECONFIG",),
           address=True, config="kube_config", flag="--kubeconfig"),
    Option("context", "Context of the kubeconfig file, if not its current one.",
           variables=("K8S_AUTH_CONTEXT",), yields_to=("kubeconfig", "host"), config="context", flag="--context"),
    Option("host", "Address of the Kubernetes API, as https://k8s.example.org:6443, instead of a kubeconfig file.",
           notes=("It needs O(api_key), or O(client_cert) and O(client_key).",),
           variables=("K8S_AUTH_HOST",), address=True, yields_to=("kubeconfig", "context"), flag="--host"),
    Option("api_key", "Bearer token for the Kubernetes API.", secret=True,
           notes=("Without O(host), it is used instead of the kubeconfig file's user.",),
           variables=("K8S_AUTH_API_KEY",),
           yields_to=("kubeconfig", "context", "api_key_file", "client_cert", "client_key")),
    Option("api_key_file", "File that holds a bearer token for the Kubernetes API; without it $K8S_AUTH_API_KEY.",
           type="path", flag="--api-key-file", places=()),
    Option("ca_cert", "PEM file of the CA that signed the Kubernetes API's certificate, for a host.", type="path",
           notes=("By default the system's CAs. The certificate is always verified. Vault's is C(vault_ca_cert).",),
           aliases=("ssl_ca_cert",), variables=("K8S_AUTH_SSL_CA_CERT",), trust=True,
           yields_to=("kubeconfig", "context"), flag="--ca-cert"),
    Option("client_cert", "PEM file of a client certificate, for a host.", type="path",
           credential=True, variables=("K8S_AUTH_CERT_FILE",),
           yields_to=("kubeconfig", "context", "api_key", "api_key_file"), flag="--client-cert"),
    Option("client_key", "PEM file of the client certificate's key.", type="path",
           credential=True, variables=("K8S_AUTH_KEY_FILE",),
           yields_to=("kubeconfig", "context", "api_key", "api_key_file"), flag="--client-key"),
    Option("proxy", "HTTP proxy to the Kubernetes API, as http://proxy.example.org:3128.", secret=True,
           notes=(f"With V({ENVIRONMENT}), E(HTTPS_PROXY) and E(NO_PROXY) are used. It counts before the kubeconfig"
                  " file's C(proxy-url). Without both there is no proxy.",),
           variables=("K8S_AUTH_PROXY",), config="kube_proxy", flag="--proxy"),
)
"""How Kubernetes is reached, by the names of kubernetes.core."""

REDIS = (
    Option("redis_url", "Redis to notify after each write, rediss://[USER@]HOST[:PORT][/DATABASE].", secret=True,
           notes=("Services that wait for changes (C(SecretManager.watch)) are notified by it. A notice holds the place"
                  " and the versions, never a ciphertext or a value.",
                  "If Redis is unreachable, the module warns. The Secrets are written all the same."),
           variables=("KUBEVAULT_REDIS_URL",), address=True, config="redis_url", flag="--redis-url",
           places=("module",)),
    Option("redis_password_file", "File that holds the password of Redis.", type="path",
           credential=True, variables=("KUBEVAULT_REDIS_PASSWORD_FILE",), config="redis_password_file",
           flag="--redis-password-file", places=("module",)),
    Option("redis_ca_cert", "PEM file of the CA of Redis' certificate, besides the system's CAs.", type="path",
           variables=("KUBEVAULT_REDIS_CACERT",), trust=True, config="redis_ca_cert", flag="--redis-ca-cert",
           places=("module",)),
    Option("redis_client_cert", "PEM file of a client certificate, which Redis requires with TLS by default.",
           type="path", credential=True, variables=("KUBEVAULT_REDIS_CLIENT_CERT",), config="redis_client_cert",
           flag="--redis-client-cert", places=("module",)),
    Option("redis_client_key", "PEM file of that certificate's key.", type="path",
           credential=True, variables=("KUBEVAULT_REDIS_CLIENT_KEY",), config="redis_client_key",
           flag="--redis-client-key", places=("module",)),
    Option("redis_channel", "First part of the names of Redis' channels, CHANNEL:NAMESPACE/NAME.", default="kubevault",
           config="redis_channel", flag="--redis-channel", places=("module",)),
)
"""Who is notified of changes."""
# fmt: on

VAULT = (*VAULT_CONNECTION, *VAULT_LOGIN, *TRANSIT)

OPTIONS = (*VAULT, *KUBERNETES, *REDIS)


def check_types(given: Mapping[str, object]) -> None:
    """Check that options that take text have text, before a library checks them, which would quote what it found.

    Args:
        given: values by the options' names or aliases.

    Raises:
        ConfigError: a value is of another type; names the option and the type.
    """
    for option in OPTIONS:
        allowed: tuple[type, ...] = {"str": (str,), "path": (str,), "raw": (str, Mapping)}.get(option.type, (object,))
        for name in (option.name, *option.aliases):
            if (value := given.get(name)) is not None and not isinstance(value, allowed):
                # Not the type's name: Ansible's templates give subclasses.
                type_name = next(
                    (kind.__name__ for kind in (dict, list) if isinstance(value, kind)), type(value).__name__
                )
                words = "text or dict" if Mapping in allowed else "text"
                raise ConfigError(f"{name}: found {type_name}; allowed is {words}")


def with_variables(given: Mapping[str, Any], *servers: Sequence[Option], others: bool = False) -> dict[str, Any]:
    """Return options with what variables and defaults say of those that are not given.

    An option counts before a variable, and our variables before those of other tools. The variables of one server
    belong together: where they name another server than what counts before them, only a CA among them counts.

    Args:
        given: values by the options' names; None if an option is not given.
        servers: the options of each server.
        others: whether variables of other tools count, as they do in Ansible.
    """
    complete = {name: value for name, value in given.items() if value is not None}
    for table in servers:
        for rank in ("variables", "others") if others else ("variables",):
            from_variables = {option.name: text for option in table if (text := _first(getattr(option, rank), option))}
            before, here = _addresses(complete, table), _addresses(from_variables, table)
            elsewhere = bool(before and here and before != here)
            missing = [item for item in table if not complete.keys() & {item.name, *item.yields_to}]
            counting = [item.name for item in missing if item.trust or not elsewhere]
            complete |= {name: from_variables[name] for name in counting if name in from_variables}
        complete = {option.name: option.default for option in table if option.default is not None} | complete
    return {**given, **complete}


def _addresses(values: Mapping[str, Any], table: Sequence[Option]) -> dict[str, str]:
    return {item.name: str(values[item.name]).rstrip("/") for item in table if item.address and item.name in values}


def _first(variables: Iterable[str], option: Option) -> str | None:
    """Return the first variable that is set; an empty one is not."""
    text = next(filter(None, map(os.environ.get, variables)), None)
    return str(Path(text).expanduser()) if text and option.type in ("path", "raw") else text


CREDENTIAL_VARIABLES = frozenset(
    variable
    for option in OPTIONS
    if option.secret or option.credential
    for variable in (*option.variables, *option.others)
)
"""Environment variables that serve to log in, which a program that `kubevault exec` runs does not get."""
