"""Root writes into no folder of a service's user: who owns a folder can put a link there, which root would follow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

ROLES = Path(__file__).parents[2] / "roles"

WRITERS = ("copy", "template", "get_url", "unarchive", "lineinfile", "blockinfile")
"""Modules that write a file on a host, at ``dest`` or ``path``."""


def tasks(role: Path) -> Iterator[dict[str, Any]]:
    """Yield the tasks of a role, those of blocks too."""

    def within(items: Any) -> Iterator[dict[str, Any]]:
        for task in items or []:
            yield task
            for part in ("block", "rescue", "always"):
                yield from within(task.get(part))

    for path in sorted((role / "tasks").glob("*.yml")):
        yield from within(yaml.safe_load(path.read_text()))


def options(task: dict[str, Any], *modules: str) -> Iterator[dict[str, Any]]:
    """Yield the options of a task with one of these modules, one for each item of a loop that is written out."""
    for module in modules:
        if found := task.get(f"ansible.builtin.{module}"):
            loop = task.get("loop")
            for item in loop if isinstance(loop, list) else [{}]:
                yield {name: filled(text, item) for name, text in found.items()}


def filled(text: Any, item: Any) -> str:
    """Return an option with the item of a loop in it, without the braces of a template."""
    parts = {f"item.{name}": str(value) for name, value in item.items()} if isinstance(item, dict) else {"item": item}
    for name, value in parts.items():
        text = str(text).replace(f"{{{{ {name} }}}}", str(value))
    return str(text).replace("{{ ", "").replace(" }}", "")


def of_users(role: Path) -> set[str]:
    """Return the folders that a role gives to somebody else than root."""
    return {
        each["path"]
        for task in tasks(role)
        for each in options(task, "file")
        if each.get("state") == "directory" and each.get("owner", "root") not in ("root", "vault_server_config_owner")
    }


def test_root_writes_into_no_folder_of_a_user() -> None:
    folders = {role.name: of_users(role) for role in sorted(ROLES.iterdir()) if not role.name.startswith("lab-")}
    assert {"vault_server_data_dir", "vault_snapshot_dir"} <= set().union(*folders.values())
    for name, owned in folders.items():
        written = [
            each.get("dest") or each.get("path", "")
            for task in tasks(ROLES / name)
            if not task.get("become_user")
            for each in options(task, *WRITERS)
        ]
        assert [path for path in written for folder in owned if path.startswith(folder)] == [], name
