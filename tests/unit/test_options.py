"""The table of connection options, and the client, the command and Ansible, which must agree with it."""

from __future__ import annotations

import importlib.util
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import fields
from pathlib import Path
from types import ModuleType
from typing import Any, get_args

import click
import pytest
import yaml

from secretmanager.commands import exec as execute
from secretmanager.commands import info, read, seal
from secretmanager.config import ENVIRONMENT, Config
from secretmanager.login.methods import NEEDS, AuthMethod, Credentials
from secretmanager.options import (
    KUBERNETES,
    OPTIONS,
    REDIS,
    TRANSIT,
    VAULT,
    VAULT_CONNECTION,
    VAULT_LOGIN,
    Option,
    with_variables,
)

ROOT = Path(__file__).parents[2]

CONFIG = {item.name: item for item in fields(Config)}
# The client runs in a service: it logs in by its service account, and True means the system's CAs.
SPECIAL_DEFAULTS = {"auth": "kubernetes", "ca_cert": True, "redis_ca_cert": True}


@pytest.fixture(scope="module")
def generator() -> ModuleType:
    spec = importlib.util.spec_from_file_location("generate_options", ROOT / "tools/generate_options.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_what_is_generated_is_up_to_date(generator: ModuleType) -> None:
    for path, text in generator.files().items():
        assert (ROOT / path).read_text() == text, f"{path} is not as the table says; run: make options"


@pytest.mark.parametrize("path", sorted((ROOT / "plugins/doc_fragments").glob("*.py")), ids=lambda path: path.stem)
def test_a_fragment_refers_to_options_of_its_own(path: Path) -> None:
    """A module may have one fragment without the others, and Ansible refuses a reference to what it does not have."""
    for text in re.findall(r'= r?"""(.*?)"""', path.read_text(), re.DOTALL):
        options = (yaml.safe_load(text) or {}).get("options") or {}
        assert set(re.findall(r"O\((\w+)", text)) <= options.keys()


@pytest.mark.parametrize("option", [option for option in OPTIONS if option.config], ids=lambda option: option.name)
def test_the_client_has_the_option(option: Option) -> None:
    item = CONFIG[option.config or ""]
    kinds = {"str": "str", "path": "str", "raw": "Mapping", "float": "float", "bool": "bool"}
    if option.name == "vault_auth_method":
        assert option.choices == get_args(AuthMethod)
    else:
        assert kinds[option.type] in str(item.type)
    assert (item.default or None) == (SPECIAL_DEFAULTS.get(item.name, option.default) or None)
    if option.secret:
        assert not item.repr


def test_the_client_reads_no_other_tool_s_variables() -> None:
    known = {option.config: variable for option in OPTIONS if option.config for variable in option.variables}
    assert {name: variable for name, variable in known.items() if variable.startswith("VAULT_")} == ENVIRONMENT


@pytest.mark.parametrize(
    ("command", "table"),
    [
        (seal.command, OPTIONS),
        (info.command, (*VAULT_CONNECTION, *VAULT_LOGIN, *TRANSIT, *KUBERNETES)),
        (read.command, (*VAULT_CONNECTION, *VAULT_LOGIN, *TRANSIT, *KUBERNETES)),
        (execute.command, (*VAULT_CONNECTION, *VAULT_LOGIN, *TRANSIT, *KUBERNETES)),
    ],
)
def test_the_command_has_the_options(command: click.Command, table: tuple[Option, ...]) -> None:
    found = {parameter.name: parameter for parameter in command.params if isinstance(parameter, click.Option)}
    for option in table:
        if not option.flag:
            assert option.name not in found
            continue
        parameter = found[option.name]
        assert parameter.opts == [option.flag]
        assert parameter.default == (None if option.variables else option.default)
        assert option.help in (parameter.help or "")


SERVERS = (VAULT, KUBERNETES, REDIS)
READ = [(option, variable) for option in OPTIONS for variable in (*option.variables, *option.others)]


@pytest.fixture
def shell(monkeypatch: pytest.MonkeyPatch) -> Callable[[dict[str, str]], None]:
    """Sets variables; no others that the table names are set."""
    for _, variable in READ:
        monkeypatch.delenv(variable, raising=False)

    def put(variables: dict[str, str]) -> None:
        for name, value in variables.items():
            monkeypatch.setenv(name, value)

    return put


@pytest.mark.parametrize(("option", "variable"), READ, ids=lambda item: getattr(item, "name", item))
def test_an_option_counts_before_each_variable(option: Option, variable: str, shell: Callable[..., None]) -> None:
    shell({variable: "/shell"})
    assert with_variables({}, *SERVERS, others=True)[option.name] == "/shell"
    assert with_variables({option.name: "given"}, *SERVERS, others=True)[option.name] == "given"
    for other in option.yields_to:
        assert option.name not in (
            with_variables({other: "given"}, *SERVERS, others=True).keys() - {"vault_auth_method"}
        )
    shell({variable: ""})
    assert with_variables({}, *SERVERS, others=True).get(option.name) == option.default


def test_our_variables_count_before_those_of_other_tools(shell: Callable[..., None]) -> None:
    shell({name: f"/own/{option.name}" for option in OPTIONS for name in option.variables})
    shell({name: f"/other/{option.name}" for option in OPTIONS for name in option.others})
    found = with_variables({}, *SERVERS, others=True)
    assert {name: value for name, value in found.items() if "/other/" in str(value)} == {}
    assert found["vault_url"] == "/own/vault_url"
    # Not even a token of another tool's Vault goes to ours.
    for name in ("VAULT_TOKEN", "VAULT_TOKEN_FILE"):
        shell({name: ""})
    assert with_variables({}, *SERVERS, others=True).keys() & {"vault_token", "vault_token_file"} == set()


@pytest.mark.parametrize("place", [option.name for option in OPTIONS if option.address])
def test_no_variable_of_another_server_counts(place: str, shell: Callable[..., None]) -> None:
    shell({variable: f"/shell/{option.name}" for option, variable in READ})
    (table,) = (table for table in SERVERS if any(option.name == place for option in table))
    defaults = {option.name: option.default for option in table if option.default is not None}
    found = with_variables({place: "given"}, table, others=True)
    assert {**found, **dict.fromkeys(trusted(table))} == {**defaults, place: "given", **dict.fromkeys(trusted(table))}


def trusted(table: tuple[Option, ...]) -> list[str]:
    """Return the options that say who is trusted: a company's CA, for example, signs for several servers."""
    return [option.name for option in table if option.trust]


def test_the_same_server_by_an_option_is_no_other(shell: Callable[..., None]) -> None:
    shell({"VAULT_ADDR": "https://vault:8200/", "VAULT_TOKEN": "x"})
    assert with_variables({"vault_url": "https://vault:8200"}, VAULT)["vault_token"] == "x"


def test_secrets_are_no_arguments() -> None:
    """Other users see the arguments of a program. A URL may contain a password, but need not."""
    urls = ["vault_proxy", "proxy", "redis_url"]
    assert [option.name for option in OPTIONS if option.secret and option.flag] == urls


def test_credentials_have_the_options() -> None:
    given = {option.name: f"/{option.name}" for option in VAULT_LOGIN}
    taken = Credentials.from_options(given)
    assert {getattr(taken, item.name) for item in fields(taken)} - {None} == set(given.values())
    assert vars(Credentials.from_options({})) == vars(Credentials())


def test_every_method_says_what_it_needs() -> None:
    assert NEEDS.keys() == set(get_args(AuthMethod))


@pytest.mark.parametrize("table", [VAULT_CONNECTION, VAULT_LOGIN, KUBERNETES, REDIS])
def test_every_option_is_documented(table: tuple[Option, ...], generator: ModuleType) -> None:
    for option in table:
        facts: dict[str, Any] = generator.documented(option)
        assert facts["description"][0].endswith(".")


def test_the_command_starts_without_what_a_subcommand_needs() -> None:
    """Each subcommand is imported when it is used."""
    code = "import sys; from secretmanager.commands import main; print(*sorted(sys.modules))"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert "secretmanager.commands.main" in loaded
    assert not {name for name in loaded if name.startswith(("secretmanager.sealing", "secretmanager.reading", "yaml"))}


def test_the_action_plugin_knows_what_is_secret() -> None:
    """It stands alone, since it is found by its path too; importing it would import Ansible's controller."""
    source = (ROOT / "plugins/action/kubevault_secret.py").read_text()
    (pattern,) = re.findall(r'^CREDENTIAL = re.compile\(r"(.*)", re.IGNORECASE\)$', source, re.MULTILINE)
    for option in OPTIONS:
        for name in (option.name, *option.aliases, *option.variables, *option.others):
            assert bool(re.search(pattern, name, re.IGNORECASE)) is option.secret, name
