"""Snapshots of Vault by their units, on all of its hosts."""

from __future__ import annotations

from testinfra.host import Host

FOLDER = "/var/lib/vault-snapshot"
CONFIGURATION = "/etc/vault-snapshot/configuration.json"


def snapshots(host: Host) -> set[str]:
    return set(host.check_output(f"find {FOLDER} -name 'vault-*.snap.age'").split())


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
