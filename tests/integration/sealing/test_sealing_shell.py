"""Variables in the operator's shell that name other servers: nothing arrives there.

The variables are those of the table of options, so that a new option is tried too.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support.ansible import BIN, play
from support.modules import run_modules
from support.sealing import Chain, environment
from support.servers import Decoy
from support.shell import misleading

from secretmanager.options import OPTIONS


@pytest.fixture
def decoy() -> Iterator[Decoy]:
    """The server that the shell names; in the end, nothing has connected to it."""
    listener = Decoy()
    yield listener
    listener.close()
    assert listener.connections == 0


@pytest.fixture
def shell(decoy: Decoy, tmp_path: Path) -> dict[str, str]:
    return misleading(decoy.url, tmp_path)


@pytest.fixture
def token_file(chain: Chain, tmp_path: Path) -> str:
    path = tmp_path / "token"
    rights = {"transit/+/derived": ["update"], "transit/hmac/derived-digest": ["update"], "sys/mounts": ["read"]}
    path.write_text(chain.token_for(rights))
    return str(path)


def own(env: dict[str, str]) -> dict[str, str]:
    """Return an environment without the variables of our options."""
    names = {name for option in OPTIONS for name in (*option.variables, *option.others)}
    return {name: value for name, value in env.items() if name not in names}


def test_an_option_of_a_module_or_the_lookup_counts_before_variables(
    chain: Chain, name: str, tmp_path: Path, shell: dict[str, str], token_file: str
) -> None:
    vault = {"vault_url": chain.vault.url, "vault_ca_cert": chain.vault.ca, "vault_token_file": token_file}
    options = {**vault, "kubeconfig": chain.kubeconfig}
    place = {"name": name, "namespace": chain.namespace}
    sealing = {**place, "transit_key": "derived", "data": {"a": "sesame"}, "redis_url": ""}
    given = ", ".join(f"{option}='{value}'" for option, value in options.items())
    tasks: list[dict[str, Any]] = [
        {"kubevault_secret": {**options, **sealing}},
        {"kubevault_secret_info": {**options, **place}},
        {"ansible.builtin.debug": {"msg": f"{{{{ lookup('kubevault', '{chain.namespace}/{name}/a', {given}) }}}}"}},
    ]
    done = play(tasks, tmp_path, {**own(environment(chain, Path(token_file))), **shell})
    assert [result["changed"] for result in done.results] == [True, False, False]
    assert list(done.results[1]["secrets"][0]["keys"]) == ["a"]
    assert done.last["msg"] == "sesame"


def test_our_variables_count_before_other_tools_variables(
    chain: Chain, name: str, tmp_path: Path, shell: dict[str, str], token_file: str
) -> None:
    """As do those of kubernetes.core before KUBECONFIG."""
    ours = {name for option in OPTIONS for name in option.variables}
    others = {name: value for name, value in shell.items() if name not in ours and not name.startswith("K8S_AUTH_")}
    sealing = {"name": name, "namespace": chain.namespace, "transit_key": "derived", "data": {"a": "sesame"}}
    env = {**environment(chain, Path(token_file)), **others}
    assert run_modules([{"kubevault_secret": sealing}], tmp_path, env)[0]["changed"]


def test_an_option_of_the_command_counts_before_variables(
    chain: Chain, name: str, tmp_path: Path, shell: dict[str, str], token_file: str
) -> None:
    vault = ["--vault-url", chain.vault.url, "--vault-ca-cert", chain.vault.ca, "--token-file", token_file]
    options = [*vault, "--kubeconfig", chain.kubeconfig]
    env = {**own(environment(chain, Path(token_file))), **shell}

    def kubevault(*arguments: str) -> str:
        command = [BIN / "kubevault", *arguments, *options]
        done = subprocess.run(command, env=env, input=b"sesame", capture_output=True, check=False)
        assert done.returncode == 0, done.stderr
        return done.stdout.decode()

    place = f"{chain.namespace}/{name}"
    kubevault("seal", place, "--transit-key", "derived", "--from-file", "a=-", "--redis-url", "")
    assert kubevault("read", f"{place}/a") == "sesame"
    assert json.loads(kubevault("info", place, "--output", "json"))[0]["newest_version"] == 1


@pytest.mark.parametrize("flags", [["--vault-url"], ["--host"]])
def test_a_token_of_the_shell_s_server_goes_to_no_other(chain: Chain, tmp_path: Path, flags: list[str]) -> None:
    """A variable that names a server takes its token with it: here the option names the decoy."""
    decoy = Decoy()
    env = environment(chain, tmp_path / "none", HOME=str(tmp_path))
    configuration = chain.api.api_client.configuration
    env |= {"VAULT_TOKEN": chain.token, "K8S_AUTH_API_KEY": "token", "K8S_AUTH_HOST": configuration.host}
    del env["K8S_AUTH_KUBECONFIG"], env["VAULT_TOKEN_FILE"]
    command = [BIN / "kubevault", "read", "default/nosuch", *flags, decoy.url]
    done = subprocess.run(command, env=env, capture_output=True, text=True, check=False)
    decoy.close()
    credentials = "$K8S_AUTH_API_KEY, or --client-cert and --client-key, is missing"
    missing = {"--vault-url": "no Vault token", "--host": credentials}
    assert missing[flags[0]] in done.stderr
    assert decoy.connections == 0
