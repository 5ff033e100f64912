#!/usr/bin/python
# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""Ansible module: a folder without what a role put into it."""

from __future__ import annotations

DOCUMENTATION = r"""
module: remove_entries
short_description: Remove named entries of a folder, and the folder if nothing else is in it
version_added: "0.1.0"
author: KUBEVAULT (@kubevault)
description:
  - Removes from a folder what a role put into it, by name, and nothing else. A folder that is empty then is removed too.
  - A folder that is a mount point or a symbolic link stays. It is no error if the folder does not exist.
  - It needs only Python, on the host that it runs on.
options:
  path:
    description:
      - The folder, as an absolute path without C(.) and C(..). A folder of the root, such as V(/etc), is refused, and so is the root itself.
    type: path
    required: true
  entries:
    description:
      - Names of the entries, which may have the wildcards C(*), C(?) and C([...]), and need a letter or digit.
      - A name that ends with C(/) means a folder, which is removed with all that is in it. Without it, a name means a file or a symbolic
        link.
      - With an empty list, only an empty folder is removed.
    type: list
    elements: str
    required: true
attributes:
  check_mode:
    description: Removes nothing, and reports what a run would remove and keep.
    support: full
  diff_mode:
    description: Shows the names of the entries.
    support: full
"""

EXAMPLES = r"""
- name: Remove the configuration, and the folder unless others have files in it
  kubevault.core.remove_entries:
    path: /etc/vault.d
    entries: [vault.hcl, "tls.*", ca.crt]

- name: Remove Raft's data
  kubevault.core.remove_entries:
    path: /opt/vault/data
    entries: [vault.db, raft/]
"""

RETURN = r"""
removed:
  description: Names of the entries that were removed.
  returned: success
  type: list
  elements: str
  sample: [vault.hcl]
kept:
  description: Names of the entries that stay in the folder.
  returned: success
  type: list
  elements: str
  sample: [gcp-credentials.json]
"""

import re
import shutil
from fnmatch import fnmatchcase
from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

FOLDER = re.compile(r"(/(?!\.{1,2}(/|$))[^/]+){2,}/?")
ENTRY = re.compile(r"(?=.*[A-Za-z0-9])[^/]+/?")


def is_folder(path: Path) -> bool:
    return path.is_dir() and not path.is_symlink()


def is_named(path: Path, entries: list[str]) -> bool:
    """Return whether one of the names means this entry, as the file or folder that it is."""
    return any(fnmatchcase(f"{path.name}/" if is_folder(path) else path.name, entry) for entry in entries)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "entries": {"type": "list", "elements": "str", "required": True},
        },
        supports_check_mode=True,
    )
    path, entries = module.params["path"], module.params["entries"]
    folder = Path(path)
    if not FOLDER.fullmatch(path):
        module.fail_json(
            msg=f"path: found {path!r}, allowed is the absolute path of a folder that is not one of the root"
        )
    for entry in entries:
        if not ENTRY.fullmatch(entry):
            module.fail_json(
                msg=f"entries: found {entry!r}, allowed is a name with a letter or digit; / ends that of a folder"
            )
    if not folder.exists():
        module.exit_json(changed=False, removed=[], kept=[])
    if not folder.is_dir():
        module.fail_json(msg=f"path: {path} is not a folder")

    existing = sorted(folder.iterdir())
    removed = [entry for entry in existing if is_named(entry, entries)]
    remaining = [entry.name for entry in existing if entry not in removed]
    stays = bool(remaining or folder.is_symlink() or folder.is_mount())
    if not module.check_mode:
        for entry in removed:
            shutil.rmtree(entry) if is_folder(entry) else entry.unlink()
        if not stays:
            folder.rmdir()
    names = [entry.name for entry in removed]
    diff = {
        "before": {"folder": "present", "entries": names + remaining},
        "after": {"folder": "present" if stays else "absent", "entries": remaining},
    }
    module.exit_json(changed=bool(names) or not stays, removed=names, kept=remaining, diff=diff)


if __name__ == "__main__":
    main()
