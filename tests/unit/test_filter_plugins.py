"""The filter plugins: what they return, what they refuse, and that their documentation is that of the functions."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from secretmanager.admin import definitions

FOLDER = Path(__file__).parents[2] / "plugins/filter"
NAMES = sorted(path.stem for path in FOLDER.glob("*.yml"))

# In a process of its own: Ansible's controller and its modules, which other tests import, do not share one.
CODE = """
import json, sys
sys.path.insert(0, sys.argv[1])
from ansible.errors import AnsibleFilterError
from kubevault import FilterModule
filters = FilterModule().filters()
try:
    print(json.dumps(filters[sys.argv[2]](*json.loads(sys.argv[3])) if sys.argv[2] else sorted(filters)))
except AnsibleFilterError as error:
    print(json.dumps(str(error)))
"""


def filtered(name: str, *arguments: object) -> object:
    """Return what a filter returns, or the text of its error; without a name, the names of all filters."""
    command = [sys.executable, "-c", CODE, FOLDER, name, json.dumps(arguments)]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)


def test_each_filter_is_documented() -> None:
    assert filtered("") == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_the_documentation_has_the_function_s_arguments_and_defaults(name: str) -> None:
    documentation = yaml.safe_load((FOLDER / f"{name}.yml").read_text())["DOCUMENTATION"]
    documented = {option: about.get("default") for option, about in documentation["options"].items()}
    value, *arguments = inspect.signature(getattr(definitions, name.removeprefix("kubevault_"))).parameters.values()
    assert value.default is inspect.Parameter.empty
    assert documented == {"_input": None, **{argument.name: argument.default for argument in arguments}}
    positional = documentation.get("positional", "")
    assert [each.strip() for each in positional.split(",") if each] == [argument.name for argument in arguments]


def test_a_filter_returns_what_the_function_returns() -> None:
    keys = [{"name": "shop"}]
    found = filtered("kubevault_key_resources", keys, "transit-eu")
    assert found == definitions.key_resources(keys, "transit-eu")


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("kubevault_policy_resources", ["*"], "transit keys '*' is not allowed"),
        ("kubevault_policy_resources", "shop", "transit keys: found a value of type str; allowed is a list"),
        ("kubevault_key_resources", ["shop"], "transit keys: found an item of type str; allowed is a dict"),
        ("kubevault_role_resources", [{}], "workload: role is missing"),
    ],
)
def test_a_filter_s_error_names_it(name: str, value: object, said: str) -> None:
    assert str(filtered(name, value)).startswith(f"{name}: {said}")
