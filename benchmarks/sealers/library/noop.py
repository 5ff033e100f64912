#!/usr/bin/python
"""Takes the arguments of kubevault_secret and does nothing: what Ansible itself needs to run a module."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule({"transit_key": {"no_log": False}, "secrets": {"type": "list", "elements": "dict"}})
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
