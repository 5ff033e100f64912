#!/usr/bin/python
"""Ansible module: free ports of the lab, chosen once."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_ports
short_description: Choose free ports on loopback once and keep them in a file
description:
  - Gives each name a free TCP port of 127.0.0.1. A name that the file has keeps its port.
  - As long as the folder of the file exists, no other lab of this user gets the port, whether it is in use or not.
options:
  path:
    description: JSON file that maps each name to its port.
    type: path
    required: true
  names:
    description: Names that need a port.
    type: list
    elements: str
    required: true
  preferred:
    description: The port that a name gets if it is free, by name.
    type: dict
    default: {}
attributes:
  check_mode:
    support: full
author: KUBEVAULT (@kubevault)
"""

EXAMPLES = r"""
- name: Choose the ports
  lab_ports:
    path: .lab/ports.json
    names: [vault, kube-apiserver]
"""

RETURN = r"""
ports:
  description: The port of each name.
  type: dict
  returned: always
  sample: {vault: 21417, kube-apiserver: 24002}
"""

from ansible.module_utils.basic import AnsibleModule

from kubevault_lab.ports import choose


def main() -> None:
    module = AnsibleModule(
        argument_spec={
            "path": {"type": "path", "required": True},
            "names": {"type": "list", "elements": "str", "required": True},
            "preferred": {"type": "dict", "default": {}},
        },
        supports_check_mode=True,
    )
    path, names, preferred = (module.params[name] for name in ("path", "names", "preferred"))
    ports, changed = choose(path, names, preferred, write=not module.check_mode)
    module.exit_json(changed=changed, ports=ports)


if __name__ == "__main__":
    main()
