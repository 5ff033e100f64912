"""An exception of the client keeps no frame of the client: their variables are tokens, ciphertexts and plaintexts."""

from __future__ import annotations

import asyncio
import base64
import queue
import resource
import signal
import sys
import threading
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic_settings import BaseSettings, SettingsConfigDict
from support.client import Manager, Put, Read
from support.cluster import Cluster
from support.frames import assert_no_frame_of_ours, chain, frames
from support.servers import PATIENCE, PrivateVault

from secretmanager import AsyncSecretManager, SecretManager
from secretmanager import errors as kinds
from secretmanager.commands.main import main
from secretmanager.errors import SecretManagerError
from secretmanager.notices import watch as watching
from secretmanager.servers.vault import TransitItem, VaultClient
from secretmanager.settings import SecretManagerSettingsSource

JWT = "eyJhbGciOiJSUzI1NiJ9.PLAIN-claims.PLAIN-signature"


@contextmanager
def leaves(kind: type[BaseException], *others: str) -> Iterator[None]:
    """Expect an exception that leaves with the frames of this test, and none of ours."""
    with pytest.raises(kind) as caught:
        yield
    error = caught.value
    assert type(error) is kind
    assert __file__ in {frame.f_code.co_filename for frame in frames(error)}
    assert_no_frame_of_ours(error, *others)


Case = tuple[type[SecretManagerError], dict[str, Any], tuple[Any, ...]]
"""An error, options of the manager, and what is read by it."""


@pytest.fixture
def cases(put: Put, cluster: Cluster, vault: PrivateVault, tmp_path: Path) -> dict[str, Case]:
    """What fails, by its name."""
    space = cluster.namespace
    readable = put({"a": "PLAIN-a"})
    weak = cluster.kubeconfig_of(cluster.account(f"weak-{uuid.uuid4().hex[:8]}"), tmp_path)

    def stored(value: bytes) -> str:
        """Store a value as it is under the name of a sealed Secret, or sealed if it is no ciphertext."""
        name = put({"a": "PLAIN-a"})
        if not value.startswith(b"vault:"):
            encoded = base64.b64encode(value).decode()
            value = vault.write("transit/encrypt/plain", plaintext=encoded)["data"]["ciphertext"].encode()
        data = {"a": base64.b64encode(value).decode()}
        cluster.api.patch_namespaced_secret(name, space, {"data": data})
        return name

    damaged = b"vault:v1:" + base64.b64encode(b"PLAIN-" * 9)
    request = (readable, space, "SECRET", None, "plain")
    return {
        "a role that is not there": (kinds.LoginDenied, {"role": "nosuch"}, request),
        "an AppRole's secret ID": (
            kinds.LoginDenied,
            {"auth": "approle", "role_id": "PLAIN-x", "secret_id": "PLAIN-y"},
            request,
        ),
        "a token": (kinds.InvalidToken, {"auth": "token", "vault_token": "hvs.PLAIN-x"}, request),
        "Vault's 403": (kinds.PermissionDenied, {"role": "powerless"}, request),
        "Kubernetes' 403": (kinds.Forbidden, {"kube_config": weak}, request),
        "404": (kinds.SecretNotFound, {}, ("nosuch", space)),
        "a data key": (kinds.SecretKeyNotFound, {}, (readable, space, "SECRET", "nosuch", "plain")),
        "no JSON": (kinds.SecretFormatError, {}, (readable, space, "SECRET", "a", "plain")),
        "a damaged ciphertext": (
            kinds.DecryptionFailed,
            {},
            (stored(damaged), space, "SECRET", None, "plain"),
        ),
        "no UTF-8": (kinds.SecretFormatError, {}, (stored(b"PLAIN-\xff"), space, "SECRET", None, "plain")),
        "no JSON, and no UTF-8": (kinds.SecretFormatError, {}, (stored(b"PLAIN-\xff"), space, "SECRET", "a", "plain")),
        "nobody listens": (kinds.VaultUnavailable, {"vault_url": "https://127.0.0.1:1", "retries": 0}, request),
        "an unknown CA": (kinds.TLSError, {"ca_cert": True}, request),
    }


def test_reads(manager: Manager, cases: dict[str, Case], approle: Any) -> None:
    assert approle
    for kind, changes, request in cases.values():
        one = manager(**changes)
        for read in (one.read_secrets, one.read_encrypted_secrets, lambda *request, one=one: many(one, request)):
            with leaves(kind):
                read(*request)


def many(one: SecretManager, request: tuple[Any, ...]) -> Any:
    names = ("secret_name", "namespace", "read_type", "read_key", "transit_key")
    return one.read_many([dict(zip(names, request, strict=False))] * 3)


def test_reads_on_asyncio(options: dict[str, Any], cases: dict[str, Case], approle: Any) -> None:
    assert approle

    async def run() -> None:
        for kind, changes, request in cases.values():
            async with AsyncSecretManager({**options, **changes}) as one:
                for _ in range(2):  # in another thread
                    with leaves(kind):
                        await one.read_secrets(*request)
                (result,) = await asyncio.gather(one.read_secrets(*request), return_exceptions=True)
                assert isinstance(result, kind)
                assert_no_frame_of_ours(result)

    asyncio.run(run())


def test_a_time_out(manager: Manager, read: Read, options: dict[str, Any], vault: PrivateVault) -> None:
    one = manager(timeout=1, retries=0)
    one.decrypt_data_with_vault("plain", vault.write("transit/encrypt/plain", plaintext="")["data"]["ciphertext"])

    async def run() -> None:
        async with AsyncSecretManager({**options, "timeout": 1, "retries": 0}) as other:
            with leaves(kinds.VaultUnavailable):
                await other.decrypt_data_with_vault("plain", "vault:v1:PLAIN-x")

    with vault.program.stopped():
        with leaves(kinds.VaultUnavailable):
            read(one)
        with leaves(kinds.VaultUnavailable):
            one.decrypt_data_with_vault("plain", "vault:v1:PLAIN-x")
        asyncio.run(run())


def test_a_cancellation(options: dict[str, Any], vault: PrivateVault) -> None:
    async def run() -> None:
        async with AsyncSecretManager({**options, "timeout": 5, "retries": 0}) as one:
            task = asyncio.create_task(one.decrypt_data_with_vault("plain", "vault:v1:PLAIN-x"))
            await asyncio.sleep(0.1)
            task.cancel()
            with pytest.raises(asyncio.CancelledError) as caught:
                await task
            assert_no_frame_of_ours(caught.value, "asyncio")

    with vault.program.stopped():
        asyncio.run(run())


def test_what_the_user_was_handling_keeps_its_frames(manager: Manager, cluster: Cluster) -> None:
    def of_the_user(secret: str) -> None:
        raise LookupError(len(secret))

    def read_while_handling() -> None:
        try:
            of_the_user("PLAIN-x")
        except LookupError:
            manager().read_secrets("nosuch", cluster.namespace)

    with pytest.raises(kinds.SecretNotFound) as caught:
        read_while_handling()
    (before,) = [error for error in chain(caught.value) if isinstance(error, LookupError)]
    assert [frame.f_code.co_name for frame in frames(before)][-1] == "of_the_user"


def test_connections(manager: Manager, cluster: Cluster, tmp_path: Path, vault: PrivateVault) -> None:
    one = manager()
    with leaves(kinds.ConfigError):
        one.connect_to_vault("http://me:PLAIN-x@127.0.0.1", k8s_token=JWT)
    two = manager()
    two.connect_to_vault(k8s_token=JWT)
    with leaves(kinds.LoginDenied):
        two.decrypt_data_with_vault("plain", "vault:v1:PLAIN-x")
    with leaves(kinds.ConfigError):
        one.connect_to_k8s({"users": [{"user": {"token": "PLAIN-x"}}]})
    weak = cluster.kubeconfig_of(cluster.account(f"weak-{uuid.uuid4().hex[:8]}"), tmp_path)
    three = manager(kube_config=weak)
    with leaves(kinds.Forbidden):
        three.get_k8s_service_account_token()
    with leaves(kinds.Forbidden):
        three.connect_to_k8s().get_secret(cluster.namespace, "x")
    with leaves(kinds.Forbidden):
        list(three.connect_to_k8s().list_secrets(cluster.namespace))
    with leaves(kinds.Forbidden):
        three.connect_to_k8s().watch("secrets", cluster.namespace, "x")
    raw = VaultClient(vault.url, ca_cert=vault.ca, token="hvs.PLAIN-x")
    for client in (two.connect_to_vault(), raw):
        with leaves(kinds.InvalidToken):
            client.decrypt("plain", [TransitItem(b"vault:v1:PLAIN-x")], token="hvs.PLAIN-y")
    with leaves(kinds.InvalidToken):
        raw.encrypt("plain", [TransitItem(b"PLAIN-x")])


def test_configurations(tmp_path: Path) -> None:
    with leaves(kinds.ConfigError):
        SecretManager({"SOURCE": "KUBEVAULT", "vault_token": "hvs.PLAIN-x", "nosuch": 1})
    with leaves(kinds.ConfigError):
        AsyncSecretManager({"SOURCE": "KUBEVAULT", "vault_token": "hvs.PLAIN-x", "nosuch": 1})
    path = tmp_path / "secretcfg.json"
    path.write_text('{"SOURCE": "KUBEVAULT", "vault_token": "hvs.PLAIN-x"')
    with leaves(kinds.SecretFormatError):
        SecretManager.from_files(str(path))
    with leaves(kinds.SecretFormatError):
        AsyncSecretManager.from_files(str(path))
    with leaves(kinds.SecretFormatError):
        SecretManager.load_json_secrets('["PLAIN-x"')
    with leaves(kinds.SecretFormatError):
        SecretManager({"SOURCE": "FILE"}).read_secrets(str(secret_file(path)))
    with leaves(kinds.WrongArguments):
        SecretManager.load_json_secrets("PLAIN-x", nosuch="PLAIN-y")  # type: ignore[call-arg]


def secret_file(path: Path) -> Path:
    path.chmod(0o600)
    return path


def test_settings(manager: Manager, cluster: Cluster) -> None:
    class Settings(BaseSettings):
        model_config = SettingsConfigDict(hide_input_in_errors=True)

    with leaves(kinds.SecretNotFound):
        SecretManagerSettingsSource(Settings, manager(), "nosuch", cluster.namespace)


# Watches


def damage(cluster: Cluster, name: str) -> None:
    data = {"a": base64.b64encode(b"vault:v1:" + base64.b64encode(b"PLAIN-" * 9)).decode()}
    cluster.api.patch_namespaced_secret(name, cluster.namespace, {"data": data})


def test_a_watch(manager: Manager, put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-a"})
    request = (name, cluster.namespace, "SECRET", None, "plain")
    with leaves(kinds.SecretNotFound):
        manager().watch("nosuch", *request[1:])
    with manager().watch(*request, initial=True) as watch:
        assert next(watch) == {"a": "PLAIN-a"}
        damage(cluster, name)
        with leaves(kinds.DecryptionFailed):
            next(watch)


def test_a_watch_on_asyncio(options: dict[str, Any], put: Put, cluster: Cluster) -> None:
    name = put({"a": "PLAIN-a"})
    request = (name, cluster.namespace, "SECRET", None, "plain")

    async def run() -> None:
        async with AsyncSecretManager(options) as one:
            with leaves(kinds.SecretNotFound):
                await one.watch("nosuch", *request[1:])
            async with await one.watch(*request, initial=True) as watch:
                assert await anext(watch) == {"a": "PLAIN-a"}
                damage(cluster, name)
                with leaves(kinds.DecryptionFailed):
                    await anext(watch)

    asyncio.run(run())


def test_callbacks(
    manager: Manager, put: Put, cluster: Cluster, monkeypatch: pytest.MonkeyPatch, options: dict[str, Any]
) -> None:
    monkeypatch.setattr(watching, "PAUSE", 0.05)
    told: queue.Queue[BaseException] = queue.Queue()
    monkeypatch.setattr(threading, "excepthook", lambda hook: told.put(hook.exc_value))

    def fail(secrets: dict[str, Any]) -> None:
        raise LookupError("of the user")

    name = put({"a": "PLAIN-a"})
    request = (name, cluster.namespace, "SECRET", None, "plain")
    manager().watch(*request, initial=True, on_change=fail)
    of_the_user = told.get(timeout=PATIENCE)
    assert [frame.f_code.co_name for frame in frames(of_the_user)][-1] == "fail"
    assert_no_frame_of_ours(of_the_user, "threading.py", "watch.py")

    with manager().watch(*request, initial=True, on_change=lambda _: damage(cluster, name), on_error=told.put):
        assert_no_frame_of_ours(told.get(timeout=PATIENCE), "watch.py")

    async def failing(secrets: dict[str, Any]) -> None:
        raise LookupError("of the user")

    async def run() -> None:
        put({"a": "PLAIN-a"}, name=name)
        async with AsyncSecretManager(options) as one:
            watch = await one.watch(*request, initial=True, on_change=failing)
            task = watch._task
            assert task
            await asyncio.wait([task], timeout=PATIENCE)
            error = task.exception()
            assert isinstance(error, LookupError)
            assert_no_frame_of_ours(error, "aio.py")
            watch._task = None
            await watch.close()

    asyncio.run(run())


# The command


@pytest.mark.parametrize(
    "arguments",
    [
        ["read", "default/nosuch"],
        ["exec", "--secret", "SPACE/NAME", "--", "/nosuch/program"],
        ["exec", "--files", "--secret", "SPACE/NAME", "--", "/nosuch/program"],
    ],
)
def test_the_command(
    seal: Put,
    cluster: Cluster,
    options: dict[str, Any],
    vault: PrivateVault,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
) -> None:
    name = seal({"a": "PLAIN-a"}, key="derived")
    monkeypatch.setenv("VAULT_ADDR", vault.url)
    monkeypatch.setenv("VAULT_CACERT", vault.ca)
    monkeypatch.setenv("K8S_AUTH_KUBECONFIG", cluster.kubeconfig)
    monkeypatch.setenv("VAULT_TOKEN", vault.root.token or "")
    arguments = [item.replace("SPACE", cluster.namespace).replace("NAME", name) for item in arguments]
    monkeypatch.setattr(sys, "argv", ["kubevault", *arguments])
    with pytest.raises(SystemExit) as caught:
        main()
    assert caught.value.code in (1, 127)
    # A process that goes on is as it was: the default of SIGPIPE would end it.
    assert signal.getsignal(signal.SIGPIPE) is signal.SIG_IGN
    assert resource.getrlimit(resource.RLIMIT_CORE)[0] == 0
    assert_no_frame_of_ours(caught.value, "commands/main.py")
