#!/usr/bin/python
"""Take the arguments of kubevault_secret and do nothing, to measure the overhead of Ansible."""

from __future__ import annotations

from ansible.module_utils.basic import AnsibleModule


def main() -> None:
    """Run the module."""
    module = AnsibleModule({"transit_key": {"no_log": False}, "secrets": {"type": "list", "elements": "dict"}})
    module.exit_json(changed=False)


if __name__ == "__main__":
    main()
