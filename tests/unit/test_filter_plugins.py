"""The filter plugins: what they return, what they refuse, and that their documentation is that of the functions."""

from __future__ import annotations

import dataclasses
import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from secretmanager.admin import definitions
from secretmanager.injection import objects
from secretmanager.injection.options import Injection

FOLDER = Path(__file__).parents[2] / "plugins/filter"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))

IMAGE = f"kubevault@sha256:{'0' * 64}"

# In a process of its own: Ansible's controller and its modules, which other tests import, do not share one.
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible.errors import AnsibleFilterError
from kubevault import FilterModule
filters = FilterModule().filters()
try:
    arguments, options = json.loads(sys.argv[3])
    print(json.dumps(filters[sys.argv[2]](*arguments, **options) if sys.argv[2] else sorted(filters)))
except AnsibleFilterError as error:
    print(json.dumps(str(error)))
"""


def filtered(name: str, *arguments: object, **options: object) -> object:
    """Return what a filter returns, or the text of its error; without a name, the names of all filters."""
    command = [sys.executable, "-c", CODE, FOLDER, name, json.dumps([arguments, options])]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_each_filter_is_documented() -> None:
    assert filtered("") == NAMES


@pytest.mark.parametrize("name", [name for name in NAMES if hasattr(definitions, name.removeprefix("kubevault_"))])
def test_the_documentation_has_the_function_s_arguments_and_defaults(name: str) -> None:
    documentation = yaml.safe_load((FOLDER / f"{name}.yml").read_text())["DOCUMENTATION"]
    documented = {
        option: inspect.Parameter.empty if about.get("required") else about.get("default")
        for option, about in documentation["options"].items()
    }
    value, *arguments = inspect.signature(getattr(definitions, name.removeprefix("kubevault_"))).parameters.values()
    assert value.default is inspect.Parameter.empty
    assert documented == {
        "_input": inspect.Parameter.empty,
        **{argument.name: argument.default for argument in arguments},
    }
    positional = documentation.get("positional", "")
    assert [each.strip() for each in positional.split(",") if each] == [argument.name for argument in arguments]


def test_a_filter_returns_what_the_function_returns() -> None:
    keys = [{"name": "shop"}]
    found = filtered("kubevault_key_resources", keys, "transit-eu")
    assert found == definitions.key_resources(keys, "transit-eu")


def test_the_documentation_of_inject_has_the_options_of_an_injection() -> None:
    documentation = yaml.safe_load((FOLDER / "kubevault_inject.yml").read_text())["DOCUMENTATION"]
    documented = {option: about.get("default") for option, about in documentation["options"].items()}
    required = {option for option, about in documentation["options"].items() if about.get("required")}
    defaults: dict[str, object] = {"_input": None}
    for option in dataclasses.fields(Injection):
        made = option.default_factory() if callable(option.default_factory) else option.default
        defaults[option.name] = list(made) if isinstance(made, tuple) else made
    missing = {option for option, default in defaults.items() if default is dataclasses.MISSING}
    assert required == {"_input", *missing}
    assert documented == {option: None if option in missing else default for option, default in defaults.items()}


def test_inject_takes_a_manifest_or_a_list() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}}
    options = {"secrets": ["a"], "vault_url": "https://vault:8200", "role": "a", "image": IMAGE}
    expected = objects.inject(pod, "sidecar", **options)
    assert expected["spec"]["initContainers"][0]["name"] == "kubevault"
    assert filtered("kubevault_inject", pod, "sidecar", **options) == expected
    assert filtered("kubevault_inject", [{"kind": "Service"}, pod], way="sidecar", **options) == [
        {"kind": "Service"},
        expected,
    ]


def test_inject_warns_of_an_image_without_a_digest() -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a"}, "spec": {"containers": [{"name": "a"}]}}
    options = {"secrets": ["a"], "vault_url": "https://vault:8200", "role": "a", "image": "kubevault:0.1.0"}
    command = [sys.executable, "-c", CODE, FOLDER, "kubevault_inject", json.dumps([[pod, "sidecar"], options])]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert "[WARNING]: kubevault_inject: image: found 'kubevault:0.1.0', which has no digest" in done.stderr
    assert json.loads(done.stdout)["spec"]["initContainers"][0]["image"] == "kubevault:0.1.0"


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kubevault_policy_resources", ["*"], "transit keys '*' is not allowed"),
        ("kubevault_policy_resources", "shop", "transit keys: found a value of type str; allowed is a list"),
        ("kubevault_key_resources", ["shop"], "transit keys: found an item of type str; allowed is a dict"),
        ("kubevault_role_resources", [{}], "workload: role is missing"),
        ("kubevault_inject", "apiVersion: v1", "manifests: found a value of type str; allowed is a dict or a list"),
        ("kubevault_inject", {"kind": "Pod"}, "secrets, vault_url, role, image: are missing"),
    ],
)
def test_a_filter_s_error_names_it(name: str, value: object, said: str) -> None:
    options = {"way": "init"} if name == "kubevault_inject" else {}
    assert str(filtered(name, value, **options)).startswith(f"{name}: {said}")
