"""The client's configuration: errors name each wrong option and show no value."""

from __future__ import annotations

import re
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from secretmanager import SecretManager, config
from secretmanager.config import Config
from secretmanager.errors import ConfigError

MINIMAL = {"SOURCE": "KUBEVAULT", "vault_url": "https://vault.example.org:8200", "role": "demo"}


@pytest.fixture(autouse=True)
def _no_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in config.ENVIRONMENT.values():
        monkeypatch.delenv(variable, raising=False)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"SOURCE": "VAULT"}, "SOURCE: found 'VAULT'; allowed are KUBEVAULT, KUBERNETES, FILE, ENVIRONMENT"),
        ({"SOURCE": None}, "SOURCE: found nothing"),
        ({"vault_adr": "x", "rol": "y"}, "rol, vault_adr: there is no such option; allowed are SOURCE, audience, auth"),
        ({"vault_url": ""}, "vault_url: is missing; SOURCE KUBEVAULT with auth kubernetes needs it"),
        ({"role": ""}, "role: is missing"),
        ({"role": 5}, "role: found a value of type int; allowed is str"),
        ({"timeout": True}, "timeout: found a value of type bool; allowed is float"),
        ({"timeout": 0}, "timeout: found 0; allowed is 0.001 or more"),
        ({"timeout": float("nan")}, "timeout: found nan"),
        ({"retries": -1}, "retries: found -1; allowed is 0 or more"),
        ({"connections": 0}, "connections: found 0; allowed is 1 or more"),
        ({"secret_id_wrapped": "yes"}, "secret_id_wrapped: found a value of type str; allowed is bool"),
        ({"auth": "ldap"}, "auth: found 'ldap'; allowed are kubernetes, approle, gcp, token"),
        ({"auth": "approle"}, "role_id or role_id_file: is missing; SOURCE KUBEVAULT with auth approle needs it"),
        ({"auth": "gcp", "role": ""}, "role: is missing; SOURCE KUBEVAULT with auth gcp needs it"),
        ({"cache_stale_if_error": 5}, "cache_stale_if_error: needs cache_plaintext_ttl"),
        ({"cache_plaintext_ttl": float("inf")}, "cache_plaintext_ttl: found inf"),
        ({"transit_mount": "a\0"}, "transit_mount: holds a character that cannot be printed"),
        ({"kube_config": "\ud800"}, "kube_config: holds a character that cannot be printed"),
    ],
)
def test_what_is_wrong_is_named(changes: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError, match=re.escape(said)):
        SecretManager({**MINIMAL, **changes})


def test_a_wrong_secret_is_not_shown() -> None:
    with pytest.raises(ConfigError) as caught:
        Config.from_dict({**MINIMAL, "secret_id": ["PLAIN"], "auth": "approle"})
    assert "PLAIN" not in str(caught.value)
    shown = repr(Config.from_dict({**MINIMAL, "secret_id": "PLAIN", "redis_url": "rediss://:PLAIN@h"}))
    assert "PLAIN" not in shown


def test_verification_cannot_be_turned_off() -> None:
    manager = SecretManager({**MINIMAL, "ca_cert": False})
    with pytest.raises(ConfigError, match="certificates are always verified"):
        manager.connect_to_vault()


@pytest.mark.parametrize("ca_cert", [True, None, "True"])
def test_the_system_s_authorities(ca_cert: object) -> None:
    assert Config.from_dict({**MINIMAL, "ca_cert": ca_cert}).ca_cert is True


def test_vault_s_own_environment_stands_in(monkeypatch: pytest.MonkeyPatch) -> None:
    for variable in config.ENVIRONMENT.values():
        monkeypatch.setenv(variable, f"/{variable}")
    found = Config.from_dict({"SOURCE": "KUBEVAULT", "role": "demo"})
    assert {name: getattr(found, name) for name in config.ENVIRONMENT} == {
        name: f"/{variable}" for name, variable in config.ENVIRONMENT.items()
    }
    given = Config.from_dict({**MINIMAL, "ca_cert": "/ca.crt", "vault_namespace": "n"})
    assert (given.vault_url, given.ca_cert, given.vault_namespace) == (MINIMAL["vault_url"], "/ca.crt", "n")
    assert given.ca_path is None


@pytest.mark.parametrize("ca_cert", [True, None, "True"])
def test_true_is_the_authority_that_the_environment_names(monkeypatch: pytest.MonkeyPatch, ca_cert: object) -> None:
    monkeypatch.setenv("VAULT_CACERT", "/ca.crt")
    assert Config.from_dict({**MINIMAL, "ca_cert": ca_cert}).ca_cert == "/ca.crt"
    folder = Config.from_dict({**MINIMAL, "ca_cert": ca_cert, "ca_path": "/cas"})
    assert (folder.ca_cert, folder.ca_path) == (True, "/cas")


def test_the_namespace_is_the_pod_s(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(config, "SERVICE_ACCOUNT_DIR", tmp_path)
    assert Config.from_dict(MINIMAL).namespace == "default"
    (tmp_path / "namespace").write_text("payments")
    assert Config.from_dict(MINIMAL).namespace == "payments"
    assert Config.from_dict({**MINIMAL, "namespace": "given"}).namespace == "given"


def test_the_documentation_names_every_option_with_its_default() -> None:
    page = (Path(__file__).parents[2] / "docs/secretmanager.md").read_text()
    table = page.partition("## Options")[2].partition("\n## ")[0]
    rows = dict(re.findall(r"^\| `(\w+)` \| [^|]+ \| ([^|]+) \|", table, re.M))
    special = {"source": "required", "namespace": "the pod's own, else `default`"}
    defaults = {
        item.name: special.get(item.name) or (f"`{item.default}`" if item.default not in ("", None) else "none")
        for item in fields(Config)
    }
    assert rows == {("SOURCE" if name == "source" else name): default for name, default in defaults.items()}


def test_the_documentation_names_every_error() -> None:
    from secretmanager import errors

    page = (Path(__file__).parents[2] / "docs/secretmanager.md").read_text()
    kinds = {
        name for name, kind in vars(errors).items() if isinstance(kind, type) and kind.__module__ == errors.__name__
    }
    assert kinds - {"SecretDataError", "VaultError", "KubernetesError", "SecretManagerError"} == set(
        re.findall(r"^\| `(\w+)` \| (?:[^|]+) \|$", page.partition("## Errors")[2], re.M)
    )
