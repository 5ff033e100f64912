"""The other sources, asyncio, pydantic-settings, and the calls of the earlier client."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pydantic import AliasChoices, AliasPath, Field, SecretStr, ValidationError
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict
from support.client import MARK, Manager, Put, Refused, assert_no_secret
from support.cluster import Cluster
from support.servers import PATIENCE, PrivateVault

from secretmanager import AsyncSecretManager, SecretManager, SecretManagerError
from secretmanager.errors import (
    ConfigError,
    LoginDenied,
    PermissionDenied,
    SecretFormatError,
    SecretKeyNotFound,
    SecretNotFound,
)
from secretmanager.sealed import Scope
from secretmanager.settings import SecretManagerSettingsSource

EXAMPLES = Path(__file__).parents[3] / "examples"


@pytest.fixture
def plain(cluster: Cluster, put: Put) -> str:
    name = put({})
    content = {"config.json": '{"password": "PLAIN-1"}', "text": "PLAIN-text"}
    cluster.put(name, {"metadata": {"name": name}, "stringData": content})
    return name


def test_a_plain_secret_of_kubernetes(manager: Manager, cluster: Cluster, plain: str, refused: Refused) -> None:
    one = manager(SOURCE="KUBERNETES", vault_url=...)
    assert one.read_secrets(plain, cluster.namespace, "SECRET", "config.json") == {"password": "PLAIN-1"}
    assert one.read_secrets(plain, cluster.namespace)["text"] == "PLAIN-text"
    assert one.read_k8s_secret(plain, cluster.namespace, "SECRET", "text") == "PLAIN-text"
    assert one.read_many([{"secret_name": plain, "namespace": cluster.namespace, "read_key": "config.json"}]) == [
        {"password": "PLAIN-1"}
    ]
    with refused(SecretFormatError, "it is not JSON", place=f"{cluster.namespace}/{plain}[text]"):
        one.read_secrets(plain, cluster.namespace, "SECRET", "text")
    with refused(SecretKeyNotFound, "it has config.json, text"):
        one.read_secrets(plain, cluster.namespace, "SECRET", "nosuch")
    with refused(ConfigError, "only KUBEVAULT uses Vault"):
        one.connect_to_vault()


def test_a_config_map_of_kubernetes(manager: Manager, cluster: Cluster, refused: Refused) -> None:
    body = {"metadata": {"name": "settings"}, "data": {"host": "db", "config.json": '{"port": 5432}'}}
    cluster.api.create_namespaced_config_map(cluster.namespace, body)
    one = manager(SOURCE="KUBERNETES")
    assert one.read_secrets("settings", cluster.namespace, "CONFIG_MAP") == body["data"]
    assert one.read_secrets("settings", cluster.namespace, "CONFIG_MAP", "config.json") == {"port": 5432}
    with refused(SecretNotFound, place=f"{cluster.namespace}/nosuch"):
        one.read_secrets("nosuch", cluster.namespace, "CONFIG_MAP")


def test_asyncio(options: dict[str, Any], put: Put, cluster: Cluster, vault: PrivateVault) -> None:
    name = put({"a": '{"v": "PLAIN-1"}'}, key="derived", scope=Scope.STRICT)

    async def run() -> None:
        logins, revoked = vault.requests("auth/kubernetes/login"), vault.requests("auth/token/revoke-self")
        async with AsyncSecretManager(options) as manager:
            reads = [manager.read_secrets(name, cluster.namespace, "SECRET", "a") for _ in range(20)]
            assert await asyncio.gather(*reads) == [{"v": "PLAIN-1"}] * 20
            request = {"secret_name": name, "namespace": cluster.namespace}
            assert await manager.read_many([request]) == [{"a": '{"v": "PLAIN-1"}'}]
            ciphertext = await manager.read_k8s_secret(name, cluster.namespace, "SECRET", "a")
            context = f"{cluster.namespace}/{name}/a".encode()
            text = await manager.decrypt_data_with_vault("derived", ciphertext, context)
            assert await manager.load_json_secrets(text) == {"v": "PLAIN-1"}
            assert (await manager.get_k8s_service_account_token()).count(".") == 2
            with pytest.raises(SecretNotFound):
                await manager.read_encrypted_secrets("nosuch", cluster.namespace)
        assert vault.requests("auth/kubernetes/login") == logins + 1
        assert vault.requests("auth/token/revoke-self") == revoked + 1

    asyncio.run(run())


def test_asyncio_has_the_same_surface() -> None:
    def surface(kind: type) -> set[str]:
        return {name for name in dir(kind) if not name.startswith("_")}

    assert surface(AsyncSecretManager) == surface(SecretManager)


def test_a_watch_by_asyncio(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})

    async def run() -> None:
        async with AsyncSecretManager(options) as manager:
            called: asyncio.Queue[Any] = asyncio.Queue()
            calling = await manager.watch(name, cluster.namespace, transit_key="plain", on_change=called.put)
            async with await manager.watch(name, cluster.namespace, transit_key="plain", initial=True) as watch:
                assert await anext(watch) == {"a": "PLAIN-1"}
                put({"a": "PLAIN-2"}, name=name)
                assert await asyncio.wait_for(anext(watch), PATIENCE) == {"a": "PLAIN-2"}
                assert await asyncio.wait_for(called.get(), PATIENCE) == {"a": "PLAIN-2"}
            assert [found async for found in watch] == []
            await calling.close()

    asyncio.run(run())


def settings(source: Callable[[type[BaseSettings]], PydanticBaseSettingsSource], *, hide: bool = True) -> Any:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(hide_input_in_errors=hide)
        username: str
        password: SecretStr
        port: int = 5432

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **others: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            return init_settings, source(settings_cls)

    return Settings


def test_settings(options: dict[str, Any], manager: Manager, put: Put, cluster: Cluster, refused: Refused) -> None:
    name = put({"a": '{"username": "neo", "password": "PLAIN-1", "unknown": 1}', "b": '{"port": "PLAIN-port"}'})
    spot = (name, cluster.namespace, "SECRET")
    made = settings(lambda kind: SecretManagerSettingsSource(kind, options, *spot, "a", "plain"))()
    assert (made.username, made.password.get_secret_value(), made.port) == ("neo", "PLAIN-1", 5432)
    made = settings(lambda kind: SecretManagerSettingsSource(kind, manager(), *spot, "a", "plain"))(port=1)
    assert made.port == 1
    with pytest.raises(ValidationError) as caught:
        settings(lambda kind: SecretManagerSettingsSource(kind, options, *spot, "b", "plain"))()
    assert_no_secret(str(caught.value))
    with refused(ConfigError, "hide_input_in_errors is not set"):
        settings(lambda kind: SecretManagerSettingsSource(kind, options, *spot, "a", "plain"), hide=False)()


def test_settings_by_aliases(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    """As pydantic takes them: a text, the first of several that there is, and a path into an object or a list."""
    database = '{"password": "PLAIN-2", "hosts": ["a", "b"]}'
    name = put({"a": f'{{"user": "neo", "other": "PLAIN-1", "database": {database}, "unknown": 1, "Port": 7}}'})

    class Settings(BaseSettings):
        model_config = SettingsConfigDict(hide_input_in_errors=True, extra="forbid")
        username: str = Field(validation_alias="user")
        password: SecretStr = Field(validation_alias=AliasChoices("nosuch", "other"))
        database: SecretStr = Field(validation_alias=AliasPath("database", "password"))
        host: str = Field(validation_alias=AliasChoices("host", AliasPath("database", "hosts", 1)))
        port: int = Field(alias="Port")

        @classmethod
        def settings_customise_sources(
            cls, settings_cls: type[BaseSettings], init_settings: PydanticBaseSettingsSource, **others: Any
        ) -> tuple[PydanticBaseSettingsSource, ...]:
            spot = (name, cluster.namespace, "SECRET", "a", "plain")
            return init_settings, SecretManagerSettingsSource(settings_cls, options, *spot)

    made = Settings()
    assert (made.username, made.host, made.port) == ("neo", "b", 7)
    assert (made.password.get_secret_value(), made.database.get_secret_value()) == ("PLAIN-1", "PLAIN-2")


EVENTLET = """
import select
del select.poll  # as eventlet.monkey_patch() does
from secretmanager import SecretManager
with SecretManager({options!r}) as one:
    for _ in range(3):
        print(one.read_secrets({name!r}, {namespace!r}, transit_key="plain"))
"""


def test_a_process_without_poll_as_under_eventlet(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    code = EVENTLET.format(options=options, name=name, namespace=cluster.namespace)
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "{'a': 'PLAIN-1'}\n" * 3), run.stderr


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "VAULT_CACERT"])
def test_the_calls_of_the_seed_run_unchanged(
    options: dict[str, Any], put: Put, cluster: Cluster, variable: str
) -> None:
    """As in the README of the earlier client, also with the second argument, and with no other option."""
    name = put({"secrets.json": '{"password": "PLAIN-1"}'})
    secretcfg = {
        "SOURCE": "KUBEVAULT",
        "kube_config": None,
        "service_account": "reader",
        "namespace": cluster.namespace,
        "vault_url": options["vault_url"],
        "role": "reader",
        "ca_cert": True,
    }
    secretdef = {
        "read_type": "SECRET",
        "secret_name": name,
        "namespace": cluster.namespace,
        "secret_key": "secrets.json",
        "transit_key": "plain",
    }
    code = f"""
import json
from secretmanager import SecretManager
secretcfg, secretdef, log_level = {secretcfg!r}, {secretdef!r}, "INFO"

sm = SecretManager(secretcfg, log_level)
secrets = sm.read_secrets(secretdef.get("secret_name"), secretdef.get("namespace"),
                                 secretdef.get("read_type"),   secretdef.get("secret_key"),
                                 secretdef.get("transit_key"))
assert json.dumps(secrets) == '{{"password": "PLAIN-1"}}'
sm = SecretManager(secretcfg)
sm.connect_to_k8s()
sm.connect_to_k8s(secretcfg.get("kube_config", None))
sm.connect_to_vault(secretcfg.get("vault_url"), secretcfg.get("role"),
                    sm.get_k8s_service_account_token(secretcfg.get("service_account"), secretcfg.get("namespace")),
                    ca_path=secretcfg.get("ca_cert", True))
ciphertext = sm.read_k8s_secret({name!r}, {cluster.namespace!r}, "SECRET", "secrets.json")
text = sm.decrypt_data_with_vault("plain", ciphertext)
assert sm.load_json_secrets(text) == secrets
assert sm.read_encrypted_secrets({name!r}, {cluster.namespace!r}, "SECRET", "secrets.json", "plain") == secrets
"""
    # ca_cert True means the CA that the environment names, or the system's CAs, which SSL_CERT_FILE names.
    names = ("VAULT_ADDR", "VAULT_CACERT", "VAULT_TOKEN_FILE")
    env = {name: value for name, value in os.environ.items() if name not in names} | {variable: options["ca_cert"]}
    run = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_the_files_of_the_seed(
    options: dict[str, Any], put: Put, cluster: Cluster, tmp_path: Path, vault: PrivateVault
) -> None:
    """As a ConfigMap of the earlier client's services holds them; and several definitions, which are one request."""
    name = put({"secrets.json": '{"password": "PLAIN-1"}', "b": "PLAIN-2"})
    place = {"secret_name": name, "namespace": cluster.namespace, "transit_key": "plain"}
    one = {**place, "read_type": "SECRET", "read_key": "secrets.json"}
    config, definition = tmp_path / "secretcfg.json", tmp_path / "secretdef.json"
    config.write_text(json.dumps(options))
    definition.write_text(json.dumps(one))
    with SecretManager.from_files(str(config), str(definition)) as manager:
        assert manager.read_defined() == {"password": "PLAIN-1"}
    definition.write_text(json.dumps({"one": one, "all": place}))
    decrypted = vault.requests("transit/decrypt/plain")

    async def run() -> None:
        async with AsyncSecretManager.from_files(str(config), str(definition)) as manager:
            found = await manager.read_defined()
            assert found["one"] == {"password": "PLAIN-1"}
            assert found["all"]["b"] == "PLAIN-2"

    asyncio.run(run())
    assert vault.requests("transit/decrypt/plain") == decrypted + 1


def test_connecting_anew_takes_other_arguments(
    manager: Manager, put: Put, cluster: Cluster, vault: PrivateVault, options: dict[str, Any], refused: Refused
) -> None:
    name, one = put({"a": "PLAIN-1"}), manager(kube_config="/nosuch", vault_url="https://127.0.0.1:1", role="nosuch")
    one.connect_to_k8s(options["kube_config"])
    one.connect_to_vault(vault.url, "powerless")
    with refused(PermissionDenied):
        one.read_secrets(name, cluster.namespace, transit_key="plain")
    revoked = vault.requests("auth/token/revoke-self")
    one.connect_to_vault(role="reader")
    assert vault.requests("auth/token/revoke-self") == revoked + 1
    assert one.read_secrets(name, cluster.namespace, transit_key="plain") == {"a": "PLAIN-1"}
    one.connect_to_vault(k8s_token="no-token")
    with refused(LoginDenied):
        one.read_secrets(name, cluster.namespace, transit_key="plain")


def test_the_example_reads_what_the_lab_sealed() -> None:
    run = subprocess.run(
        [sys.executable, EXAMPLES / "kubevault_example.py"], capture_output=True, text=True, check=False
    )
    assert (run.returncode, run.stdout) == (0, "default/matrix-secrets[secrets.json] holds: password, username\n"), (
        run.stderr
    )


def test_a_client_that_is_replaced_is_closed(
    manager: Manager, put: Put, cluster: Cluster, tmp_path: Path, vault: PrivateVault
) -> None:
    name = put({"a": "PLAIN-a"})
    one = manager()
    one.read_secrets(name, cluster.namespace, transit_key="plain")
    before = one.connect_to_vault(), one.connect_to_k8s()
    assert all(client._api._idle for client in before)
    shutil.copy(cluster.kubeconfig, tmp_path / "copy.conf")
    after = one.connect_to_vault(role="powerless"), one.connect_to_k8s(str(tmp_path / "copy.conf"))
    assert after[0] is not before[0]
    assert after[1] is not before[1]
    assert not any(client._api._idle for client in before)


def test_no_path_logs_a_value(
    manager: Manager,
    put: Put,
    cluster: Cluster,
    plain: str,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    vault: PrivateVault,
) -> None:
    """All ways to read, with DEBUG output; a fixture searches that of all other tests as well."""
    name = put({"a": '{"v": "PLAIN-1"}', "bad": "PLAIN-bad"})
    request = {"secret_name": name, "namespace": cluster.namespace, "transit_key": "plain"}
    kept = manager(cache_plaintext_ttl=0.001, cache_ciphertext_ttl=60, cache_stale_if_error=600, retries=0)
    for one in (manager(), kept):
        one.read_secrets(**request)
        one.read_secrets(**request, read_key="a")
        one.read_many([request, {**request, "read_key": "a"}])
        for wrong in ({"read_key": "bad"}, {"read_key": "nosuch"}, {"secret_name": "nosuch"}):
            with pytest.raises(SecretManagerError):
                one.read_secrets(**{**request, **wrong})
    vault.write("sys/leases/revoke-prefix/auth/kubernetes/login", sync=True)
    kept.read_secrets(**request)
    vault.seal()
    try:
        kept.read_secrets(**request)
    finally:
        vault.unseal()
    with manager().watch(name, cluster.namespace, "SECRET", "a", "plain", initial=True) as watch:
        next(watch)
    manager(SOURCE="KUBERNETES").read_secrets(plain, cluster.namespace)
    (tmp_path / "file.json").write_text('{"v": "PLAIN-1"}')
    (tmp_path / "file.json").chmod(0o600)
    manager(SOURCE="FILE").read_secrets(str(tmp_path / "file.json"))
    monkeypatch.setenv("A_SECRET", "PLAIN-1")
    manager(SOURCE="ENVIRONMENT").read_secrets({"v": "A_SECRET"})
    for one in (manager(), kept):
        repr(one), str(vars(one)["config"])
        one.close()
    ours = [record for record in caplog.records if record.name.startswith("secretmanager")]
    modules = {record.name.rpartition(".")[2] for record in ours if record.levelno == logging.DEBUG}
    assert modules >= {"manager", "session", "plain", "watch"}
    for record in ours:
        assert MARK not in repr(vars(record)), record


def test_the_client_imports_no_more_than_it_needs(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    code = (
        "import sys\nfrom secretmanager import SecretManager\n"
        f"SecretManager({options!r}).read_secrets({name!r}, {cluster.namespace!r}, transit_key='plain')\n"
        "heavy = {'asyncio', 'importlib.metadata', 'kubernetes', 'urllib3', 'requests', 'redis', 'pydantic', 'hvac',"
        " 'google', 'tempfile', 'concurrent.futures'}\n"
        "print(*sorted(heavy & set(sys.modules)))\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert (run.returncode, run.stdout) == (0, "\n"), run.stderr


def test_a_process_that_closes_nothing_ends(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-1"})
    code = (
        "from secretmanager import SecretManager\n"
        f"one = SecretManager({options!r})\n"
        f"watch = one.watch({name!r}, {cluster.namespace!r}, transit_key='plain', on_change=print)\n"
        "print('done')\n"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE)
    assert (run.returncode, run.stdout) == (0, "done\n"), run.stderr
