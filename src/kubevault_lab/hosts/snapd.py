"""The real snapd on a host: what it needs of systemd-nspawn, and what a host without udev and a way out lacks."""

from __future__ import annotations

from .machine import Host
from .sandbox import CONTROLLER

ARGUMENTS = ("--bind=/dev/fuse", "--capability=all", "--system-call-filter=@mount @keyring")
"""Arguments of systemd-nspawn, as of `machine.Host`."""

_START = f"""
# It would go on as the snapd of its own snap.
mkdir -p /etc/systemd/system/snapd.service.d
printf '[Service]\\nEnvironment=SNAP_REEXEC=0\\n' >/etc/systemd/system/snapd.service.d/host.conf
ln -sf /bin/true /usr/local/bin/udevadm
# As if it had the store's catalogue of today: at each start it would try for 32 s to get it, and do nothing else.
touch /var/cache/snapd/names
# Kubernetes' API server takes its own address from the default route.
mkdir -p /etc/systemd/network/10-host0.network.d
printf '[Network]\\nGateway={CONTROLLER}\\n' >/etc/systemd/network/10-host0.network.d/gateway.conf
networkctl reload
networkctl reconfigure host0
systemctl daemon-reload
systemctl enable --quiet --now snapd.socket snapd.service
"""


def start(host: Host) -> None:
    """Start snapd, now and when the host starts; the host has to have `ARGUMENTS`.

    Raises:
        LabError: it does not start.
    """
    host.run("sh", "-euc", _START)
