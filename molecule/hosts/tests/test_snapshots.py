"""Snapshots of Vault by their units, on all of its hosts."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from shlex import quote

import pytest
import yaml
from support import snapshot_program
from support.ansible import Run
from support.gnupg import KeyRing, key_ring
from testinfra.host import Host

FOLDER = "/var/lib/vault-snapshot"
CONFIGURATION = "/etc/vault-snapshot/configuration.json"

SHARE = "/mnt/kubevault"
"""Where a share is mounted: a file system in memory, in place of one by NFS."""

MOUNT = "/run/systemd/system/mnt-kubevault.mount"
"""The unit that mounts it, as systemd makes one of a line of /etc/fstab."""


def snapshots(host: Host, suffix: str = ".age") -> set[str]:
    return set(host.check_output(f"find {FOLDER} -name 'vault-*.snap{suffix}'").split())


def test_the_timer_waits_for_the_night(host: Host) -> None:
    timer = host.service("vault-snapshot.timer")
    assert timer.is_enabled
    assert timer.is_running


def test_the_leader_takes_a_snapshot_and_the_others_none(vaults: dict[str, Host]) -> None:
    before = {name: snapshots(host) for name, host in vaults.items()}
    for host in vaults.values():
        host.check_output("systemctl start vault-snapshot")
    new = {name: snapshots(host) - before[name] for name, host in vaults.items()}
    ((name, (path,)),) = [(name, found) for name, found in new.items() if found]
    host = vaults[name]
    assert (host.file(path).user, host.file(path).mode) == ("vault-snapshot", 0o600)
    assert host.check_output(f"head --bytes=21 {path}") == "age-encryption.org/v1"
    metrics = host.file(f"{FOLDER}/metrics.prom").content_string
    assert f"\nvault_snapshot_size_bytes {host.file(path).size}\n" in metrics


def test_the_unit_s_user_reads_its_configuration_and_does_not_write_it(host: Host) -> None:
    folder, names = CONFIGURATION.rpartition("/")[0], ("configuration.json", "recipients", "ca.crt", "token")
    found = {path: host.file(path) for path in (folder, *(f"{folder}/{name}" for name in names))}
    modes = {path: (file.user, file.group, file.mode) for path, file in found.items()}
    assert modes == {path: ("root", "vault-snapshot", 0o750 if path == folder else 0o640) for path in found}


def test_a_snapshot_that_is_too_old_is_an_error(vaults: dict[str, Host]) -> None:
    host = next(host for host in vaults.values() if snapshots(host))
    check = "/usr/local/bin/vault-snapshot check"
    host.check_output(f"{check} {CONFIGURATION}")
    impatient = "/run/impatient.json"
    host.check_output(f'sed \'s/"max_age": [0-9]*/"max_age": 0/\' {CONFIGURATION} >{impatient}')
    assert host.run(f"{check} {impatient}").rc == 1


def test_the_unit_exposes_little(host: Host) -> None:
    checked = host.run("systemd-analyze security --threshold=30 vault-snapshot")
    assert checked.rc == 0, checked.stdout[-200:]


@pytest.fixture
def share(vaults: dict[str, Host], leader: str) -> Iterator[Host]:
    """The leader, with a share that is mounted there."""
    host = vaults[leader]
    unit = f"[Mount]\nWhat=tmpfs\nWhere={SHARE}\nType=tmpfs\nOptions=uid=vault-snapshot,mode=0700\n"
    host.check_output(f"printf %s {quote(unit)} >{MOUNT} && systemctl daemon-reload")
    host.check_output(f"systemctl start {Path(MOUNT).name}")
    yield host
    host.check_output(f"systemctl stop {Path(MOUNT).name} && rm -df {SHARE} {MOUNT} && systemctl daemon-reload")


@pytest.fixture
def ring() -> Iterator[KeyRing]:
    with key_ring() as made:
        made.make_key("backup")
        yield made


def test_a_snapshot_for_a_pgp_key_is_copied_to_a_share(
    share: Host, leader: str, run: Callable[..., Run], ring: KeyRing, tmp_path: Path
) -> None:
    """On the leader alone: the others take none."""
    public = tmp_path / "backup.asc"
    public.write_bytes(ring.export("backup", "--armor"))
    variables = {
        "vault_snapshot_age_recipients": [],
        "vault_snapshot_pgp_key_file": str(public),
        "vault_snapshot_copy_command": ["cp", "{path}", f"{SHARE}/{{name}}"],
        "vault_snapshot_copy_dirs": [SHARE],
    }
    role = {"ansible.builtin.include_role": {"name": "vault-snapshot"}}
    play = {"hosts": leader, "become": True, "gather_facts": True, "vars": variables, "tasks": [role]}
    playbook = tmp_path / "playbook.yml"
    playbook.write_text(yaml.safe_dump([play]))
    try:
        run(playbook)
        assert run(playbook).changed == 0
        share.check_output("systemctl start vault-snapshot")
        (copy,) = share.check_output(f"find {SHARE} -type f").split()
        content = share.check_output(f"base64 --wrap=0 {copy}")
        assert content == share.check_output(f"base64 --wrap=0 {FOLDER}/{Path(copy).name}")
        snapshot_program.load().verify(io.BytesIO(ring.decrypt(base64.b64decode(content))))
        before = snapshots(share, ".gpg")
        # Names have the time in seconds.
        share.check_output(f"sleep 1; systemctl stop {Path(MOUNT).name}")
        assert share.run("systemctl start vault-snapshot").rc == 1
        assert len(snapshots(share, ".gpg") - before) == 1
        said = share.check_output("journalctl --unit=vault-snapshot --lines=5 --output=cat")
        assert "was taken, but not copied: cp: ended with status 1" in said
    finally:
        # The one for this key would count as that of the day.
        run("playbooks/snapshots.yml", f"--limit={leader}")
        share.check_output("systemctl start vault-snapshot")
