"""Hosts with a real systemd, an address and sshd of their own, on one machine, without virtualisation.

`sandbox` gives a command namespaces of its own. `machine` stands up hosts in them by systemd-nspawn, each an overlay of
the root file system that `rootfs` makes once. The command line is in `__main__`; docs/hosts.md describes it.
"""
