"""One way to log in for all: what a service can do, the command, the lookup plugin and the modules can too."""

from __future__ import annotations

import json
import re
import subprocess
import traceback
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support import ansible
from support.client import SELF, VALUES, MakeAppRole, Put
from support.cluster import Cluster
from support.google_stand_in import GoogleStandIn
from support.intermediary import HttpProxy
from support.modules import run_module
from support.servers import PrivateVault, sealed

from secretmanager import SecretManager
from secretmanager.errors import SecretManagerError
from secretmanager.options import OPTIONS


@dataclass(frozen=True)
class Reading:
    """A Secret sealed with the Transit key "plain", and where it is."""

    vault: PrivateVault
    cluster: Cluster
    secret: str
    folder: Path

    @property
    def env(self) -> dict[str, str]:
        return ansible.environment(
            VAULT_ADDR=self.vault.url,
            VAULT_CACERT=self.vault.ca,
            K8S_AUTH_KUBECONFIG=self.cluster.kubeconfig,
            ANSIBLE_HOME=str(self.folder / "ansible"),
            HOME=str(self.folder),
        )


Login = Mapping[str, str | bool]
"""How to log in, by the names of Ansible's options without ``vault_``."""

TABLE = {option.name: option for option in OPTIONS}


class Refused(AssertionError):
    """A log-in that was refused, with everything that was shown."""


def by_client(reading: Reading, login: Login) -> dict[str, Any]:
    config = {
        "SOURCE": "KUBEVAULT",
        "kube_config": reading.cluster.kubeconfig,
        "vault_url": reading.vault.url,
        "ca_cert": reading.vault.ca,
    }
    given = {TABLE[f"vault_{name}"].config: value for name, value in login.items()}
    with SecretManager({**config, **given}) as manager:
        try:
            return manager.read_secrets(reading.secret, reading.cluster.namespace, transit_key="plain")
        except SecretManagerError as error:
            raise Refused("".join(traceback.format_exception(error))) from None


def by_command(reading: Reading, login: Login) -> dict[str, Any]:
    options, env = ["--transit-key", "plain"], reading.env
    if "url" in login:
        del env["VAULT_ADDR"]  # $VAULT_TOKEN is for the Vault that it names
    for name, value in login.items():
        option = TABLE[f"vault_{name}"]
        if option.flag:
            options += [option.flag, *([] if value is True else [str(value)])]
        else:
            env[option.variables[0]] = str(value)  # other users see arguments
    place = f"{reading.cluster.namespace}/{reading.secret}"
    command = [ansible.BIN / "kubevault", "read", place, *options]
    run = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    if run.returncode:
        raise Refused(run.stdout + run.stderr)
    values: dict[str, Any] = json.loads(run.stdout)
    return values


def by_lookup(reading: Reading, login: Login) -> dict[str, Any]:
    run = play_lookups(reading, login)
    if run.last.get("failed"):
        raise Refused(run.output)
    values: dict[str, Any] = run.last["msg"]
    return values


def play_lookups(reading: Reading, *logins: Login) -> ansible.Run:
    """Read once by each log-in, with the utmost verbosity, in one play."""
    place = f"{reading.cluster.namespace}/{reading.secret}"
    tasks = []
    for index, login in enumerate(logins):
        options = "".join(f", vault_{name}=logins[{index}].{name}" for name in login)
        lookup = f"{{{{ lookup('kubevault.core.kubevault', '{place}', transit_key='plain'{options}) }}}}"
        tasks.append({"ansible.builtin.debug": {"msg": lookup}, "ignore_errors": True})
    variables = {"logins": [dict(login) for login in logins]}
    return ansible.play(tasks, reading.folder, reading.env, "-vvvv", variables=variables)


def by_module(reading: Reading, login: Login) -> dict[str, Any]:
    """A module cannot decrypt; it asks Vault for the newest version of the key, which needs the log-in too."""
    options = {"namespace": reading.cluster.namespace, "name": reading.secret, "transit_key": "plain"}
    task = {"kubevault_secret_info": {**options, **{f"vault_{name}": value for name, value in login.items()}}}
    result = run_module(task, reading.folder, reading.env)
    if result.get("failed"):
        raise Refused(json.dumps(result))
    (secret,) = result["secrets"]
    assert secret["newest_version"] == reading.vault.root.read_key("plain")["latest_version"]
    return VALUES


@pytest.fixture(params=[by_client, by_command, by_lookup, by_module], ids=lambda caller: caller.__name__)
def read(request: pytest.FixtureRequest) -> Any:
    return request.param


@pytest.fixture
def reading(vault: PrivateVault, cluster: Cluster, put: Put, tmp_path: Path) -> Reading:
    vault.policy("reads-everywhere", POLICY)
    return Reading(vault, cluster, put(VALUES), tmp_path)


POLICY = {"transit/decrypt/plain": ["update"], "transit/keys/plain": ["read"], **SELF}


def test_an_approle(read: Any, reading: Reading, approle: MakeAppRole) -> None:
    role_id, secret_id = approle("everywhere", token_policies=["reads-everywhere"])
    assert read(reading, {"auth_method": "approle", "role_id": role_id, "secret_id": secret_id}) == VALUES


def test_a_client_certificate_and_a_proxy(read: Any, reading: Reading) -> None:
    vault, proxy = reading.vault, HttpProxy("me:PLAIN-secret")
    cert, key = vault.clients.issue("everywhere")
    way: dict[str, str | bool] = {"client_cert": str(cert), "client_key": str(key), "url": vault.mutual_url}
    way |= {"proxy": f"http://me:PLAIN-secret@{proxy.address}", "auth_method": "token", "token": vault.root.token or ""}
    try:
        assert read(reading, way) == VALUES
    finally:
        proxy.close()
    assert set(proxy.targets) == {vault.mutual_url.removeprefix("https://")}


def test_an_approle_from_files(read: Any, reading: Reading, approle: MakeAppRole) -> None:
    login: dict[str, str | bool] = {"auth_method": "approle"}
    for name, text in zip(("role_id", "secret_id"), approle("filed", token_policies=["reads-everywhere"]), strict=True):
        (reading.folder / name).write_text(f"{text}\n")
        login[f"{name}_file"] = str(reading.folder / name)
    assert read(reading, login) == VALUES


def test_a_wrapped_secret_id(read: Any, reading: Reading, approle: MakeAppRole) -> None:
    role_id, token = approle("everywhere", wrapped=True, token_policies=["reads-everywhere"])
    login = {"auth_method": "approle", "role_id": role_id, "secret_id": token, "secret_id_wrapped": True}
    assert read(reading, login) == VALUES


def test_an_approle_without_a_secret_id(read: Any, reading: Reading, approle: MakeAppRole) -> None:
    bound = {"bind_secret_id": False, "token_bound_cidrs": ["127.0.0.1/32"]}
    role_id, _ = approle("open-everywhere", token_policies=["reads-everywhere"], **bound)
    assert read(reading, {"auth_method": "approle", "role_id": role_id}) == VALUES


def test_google(read: Any, google: GoogleStandIn, google_vault: PrivateVault, cluster: Cluster, tmp_path: Path) -> None:
    cluster.put("everywhere", sealed(google_vault, (cluster.namespace, "everywhere"), "plain", VALUES, None))
    key_file = str(google.key_file(tmp_path / "key.json"))
    login = {"auth_method": "gcp", "role": "reader", "gcp_credentials_file": key_file}
    assert read(Reading(google_vault, cluster, "everywhere", tmp_path), login) == VALUES


@pytest.fixture
def token(reading: Reading) -> str:
    created = reading.vault.write("auth/token/create", policies=["reads-everywhere"], no_parent=True)
    text: str = created["auth"]["client_token"]
    return text


def test_white_space_around_a_token(read: Any, reading: Reading, token: str) -> None:
    assert read(reading, {"auth_method": "token", "token": f" {token}\r\n"}) == VALUES


def test_white_space_around_an_approle(read: Any, reading: Reading, approle: MakeAppRole) -> None:
    role_id, secret_id = approle("everywhere", token_policies=["reads-everywhere"])
    login = {"auth_method": "approle", "role_id": f"{role_id}\n", "secret_id": f"\t{secret_id}\n"}
    assert read(reading, login) == VALUES


ODD: list[tuple[Login, str]] = [
    *(
        ({"auth_method": "token", "token": f"hvs.FOLLOW{odd}RABBIT"}, "vault_token")
        for odd in ("\r\nX-Injected: 1", "\n", " ", "\N{NO-BREAK SPACE}", "\N{SNOWMAN}")
    ),
    *(
        ({"auth_method": "approle", "role_id": "a", "secret_id": "b", option: "FOLLOW\r\nRABBIT"}, option)
        for option in ("role_id", "secret_id")
    ),
]
"""Log-ins with a character that cannot be in a header of HTTP, and the option that has it."""

COMMANDS = {"vault_token": "$VAULT_TOKEN", "role_id": "--role-id"}
"""How the command names some of these options."""

REFUSAL = "holds white space or a character that no token has"


@pytest.mark.parametrize("read", [by_client, by_command, by_module])
@pytest.mark.parametrize(("login", "option"), ODD)
def test_an_odd_character(read: Any, reading: Reading, login: Login, option: str) -> None:
    shown = COMMANDS.get(option, option) if read is by_command else option
    with pytest.raises(Refused, match=f"{re.escape(shown)}: {REFUSAL}") as caught:
        read(reading, login)
    # A role ID is no secret: Ansible shows it among the module's arguments.
    assert option == "role_id" or not re.search("FOLLOW.*RABBIT", str(caught.value), re.DOTALL)


def test_an_odd_character_in_a_lookup(reading: Reading) -> None:
    run = play_lookups(reading, *(login for login, _ in ODD))
    for (_, option), result in zip(ODD, run.results, strict=True):
        assert result["failed"]
        assert f"{option}: {REFUSAL}" in result["msg"]
    assert not re.search("FOLLOW.{1,40}RABBIT", run.output, re.DOTALL)
