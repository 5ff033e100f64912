#!/usr/bin/python
"""Ansible module: the programs of the lab's servers."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_binaries
short_description: Provide the programs of the lab
description:
  - Provides each program from the first of these that has it - a given path, or C(PATH) where it has the pinned
    version; the cache; the official release with its published SHA-256; a build of the Go module that C(tools/) pins.
  - A build may take a quarter of an hour. C(python -m kubevault_lab.binaries) does the same and shows how far it is.
options:
  names:
    description: Programs to provide.
    type: list
    elements: str
    choices: [etcd, kube-apiserver, kube-controller-manager, kube-scheduler, kubelet, kubectl, vault]
    default: [etcd, kube-apiserver, kube-controller-manager, vault]
  given:
    description:
      - Paths of programs to use as they are, by name.
      - For a name that is not in it, the path in E(KUBEVAULT_ETCD), E(KUBEVAULT_KUBE_APISERVER) and so on is taken.
    type: dict
    default: {}
  cache:
    description:
      - Folder that keeps the programs.
      - Where it is not set, E(KUBEVAULT_CACHE) is taken, else C(kubevault) in E(XDG_CACHE_HOME) or C(~/.cache).
    type: path
  mirror:
    description:
      - URL of a mirror of the releases, C(https), or C(http) on loopback. It has each file under the host and path
        that it has upstream.
      - Where it is not set, E(KUBEVAULT_MIRROR) is taken, else upstream.
    type: str
attributes:
  check_mode:
    support: full
  diff_mode:
    support: full
author: KUBEVAULT (@kubevault)
"""

EXAMPLES = r"""
- name: Provide Vault
  lab_binaries:
    names: [vault]
  register: programs

- name: Say its version
  ansible.builtin.command:
    argv: ["{{ programs.paths.vault }}", version]
  changed_when: false
"""

RETURN = r"""
paths:
  description: The path of each program; in check mode, where it would be.
  type: dict
  returned: always
  sample: {vault: /home/me/.cache/kubevault/vault-1.21.0-9e6172be30fc-linux-amd64}
messages:
  description: What was done, or would be in check mode.
  type: list
  elements: str
  returned: always
  sample: ["vault 1.21.0: downloaded, checksum verified"]
"""

import io

from ansible.module_utils.basic import AnsibleModule

from kubevault_lab.binaries import Provider
from kubevault_lab.errors import LabError
from kubevault_lab.progress import Progress
from kubevault_lab.projects import PROGRAMS, SERVER_PROGRAMS


class Messages(Progress):
    """Keeps what is said for the module's result."""

    def __init__(self, module: AnsibleModule) -> None:
        # Ansible shows a result at the end alone: no progress.
        super().__init__(io.StringIO())
        self.said: list[str] = []
        self._module = module

    def say(self, text: str) -> None:
        """Keep a line."""
        self.said.append(text)

    def warn(self, text: str) -> None:
        """Warn as Ansible does, whatever the verbosity."""
        self._module.warn(text)


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "names": {"type": "list", "elements": "str", "choices": list(PROGRAMS), "default": list(SERVER_PROGRAMS)},
            "given": {"type": "dict", "default": {}},
            "cache": {"type": "path"},
            "mirror": {"type": "str"},
        },
        supports_check_mode=True,
    )
    messages = Messages(module)
    try:
        provider = Provider.from_environment(
            given=module.params["given"],
            cache=module.params["cache"],
            mirror=module.params["mirror"],
            progress=messages,
        )
        found = provider.locate(module.params["names"])
        missing = [program for program, path in found.items() if path is None]
        if module.check_mode:
            obtained = {program: provider.destination(program) for program in missing}
            messages.said += [provider.plan(program) for program in missing]
        else:
            obtained = provider.obtain(missing)
    except LabError as error:
        module.fail_json(msg=str(error), messages=messages.said)
    module.exit_json(
        changed=bool(missing),
        paths={program: str(path or obtained[program]) for program, path in found.items()},
        messages=messages.said,
        diff={"before": "", "after": "".join(f"{obtained[program]}\n" for program in missing)},
    )


if __name__ == "__main__":
    main()
