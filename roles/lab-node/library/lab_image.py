#!/usr/bin/python
"""Ansible module: images in the containerd of the lab's node."""

from __future__ import annotations

DOCUMENTATION = r"""
module: lab_image
short_description: Load images into the containerd of the lab's node
description:
  - Loads the images of an OCI layout, unless containerd has the same images by their names.
options:
  socket:
    description: Path of containerd's socket.
    type: path
    required: true
  source:
    description: The OCI layout, a folder or a tar archive. Its C(index.json) names each image for containerd.
    type: path
    required: true
attributes:
  check_mode:
    support: full
author: KUBEVAULT (@kubevault)
"""

EXAMPLES = r"""
- name: Load an image
  lab_image:
    socket: .lab/node/containerd.sock
    source: example.tar
"""

RETURN = r"""
{}
"""

from pathlib import Path

from ansible.module_utils.basic import AnsibleModule

from kubevault_lab.errors import LabError
from kubevault_lab.images import load


def main() -> None:
    module = AnsibleModule(
        argument_spec={"socket": {"type": "path", "required": True}, "source": {"type": "path", "required": True}},
        supports_check_mode=True,
    )
    try:
        changed = load(module.params["socket"], Path(module.params["source"]), write=not module.check_mode)
    except LabError as error:
        module.fail_json(msg=str(error))
    module.exit_json(changed=changed)


if __name__ == "__main__":
    main()
