"""The options of a Secret: the module, its documentation, the package and the command agree."""

from __future__ import annotations

import importlib
import sys
from dataclasses import MISSING, fields
from enum import StrEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest
import yaml

from secretmanager.commands import seal
from secretmanager.sealed import Scope
from secretmanager.sealing.spec import Behavior, SecretSpec, State

VALUES = {"data", "binary_data", "files"}
"""Options by which users pass values; the package has the bytes of all of them in ``values``."""

WORDS: dict[str, type[StrEnum]] = {"scope": Scope, "state": State, "behavior": Behavior}

OTHER_NAMES = {"labels": "labels", "annotations": "annotations", "type": "secret_type"}
"""Names of the command's parameters that differ, or stand for an option that may be given several times."""


@pytest.fixture(scope="module")
def module() -> ModuleType:
    sys.path.append(str(Path(__file__).parents[2] / "collections"))
    return importlib.import_module("ansible_collections.kubevault.core.plugins.modules.kubevault_secret")


@pytest.fixture(scope="module")
def documented(module: ModuleType) -> dict[str, Any]:
    options: dict[str, Any] = yaml.safe_load(module.DOCUMENTATION)["options"]
    return options


def test_the_package_has_the_module_s_options(module: ModuleType) -> None:
    ours = {item.name for item in fields(SecretSpec)}
    assert set(module.SECRET_OPTIONS) - VALUES == ours - {"values"}
    assert set(module.SECRET_OPTIONS) >= VALUES


def test_the_documentation_has_them_for_the_task_and_for_each_secret(
    module: ModuleType, documented: dict[str, Any]
) -> None:
    entry = documented["secrets"]["suboptions"]
    assert entry.keys() == module.SECRET_OPTIONS.keys()
    assert module.SECRET_OPTIONS.keys() <= documented.keys()
    for name, spec in module.SECRET_OPTIONS.items():
        for told in (entry[name], documented[name]):
            assert (told["type"], told.get("choices"), told.get("elements")) == (
                spec["type"],
                spec.get("choices"),
                spec.get("elements"),
            ), name
        assert documented[name].get("default") == module.DEFAULTS.get(name), name


def test_defaults_and_words_are_the_package_s(module: ModuleType) -> None:
    known = {item.name: item for item in fields(SecretSpec)}
    for name, default in module.DEFAULTS.items():
        assert known[name].default == default, name
    for name, words in WORDS.items():
        assert module.SECRET_OPTIONS[name]["choices"] == [str(word) for word in words]


def test_the_command_has_them(module: ModuleType) -> None:
    context = click.Context(seal.command)
    found = {parameter.name: parameter for parameter in seal.command.params if isinstance(parameter, click.Option)}
    for item in fields(SecretSpec):
        if item.name in ("namespace", "name", "values"):
            continue  # the argument NAMESPACE/NAME, and the options that read values
        parameter = found[OTHER_NAMES.get(item.name, item.name)]
        if item.name in WORDS:
            assert isinstance(parameter.type, click.Choice)
            assert list(parameter.type.choices) == [str(word) for word in WORDS[item.name]]
        default = parameter.get_default(context)
        if item.default not in (MISSING, None) and not parameter.multiple:
            assert default == (str(item.default) if isinstance(item.default, StrEnum) else item.default), item.name
