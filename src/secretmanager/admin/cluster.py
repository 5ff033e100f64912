"""A cluster of Vault with Raft storage: wait for a node, take leadership from it, remove nodes that are gone.

Sources: https://developer.hashicorp.com/vault/api-docs/system/health, /system/leader, /system/step-down,
/system/storage/raft and /system/storage/raftautopilot
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeVar

from ..errors import ConfigError, VaultError, VaultSealed, VaultUnavailable
from .connection import Vault

T = TypeVar("T")

_POLL = 0.1  # seconds between two requests to a Vault that is starting


def wait_for(look: Callable[[], T], problem: str, timeout: float) -> T:
    """Look repeatedly until there is a result.

    Args:
        look: returns the result; something false if there is none yet. Vault may be unavailable.
        problem: text of the error.
        timeout: how long to look, in seconds; 0 looks once.

    Raises:
        VaultUnavailable: there was no result in time.
    """
    deadline = time.monotonic() + timeout
    while True:
        reason: VaultError | None = None
        try:
            if result := look():
                return result
        except (VaultUnavailable, VaultSealed) as error:
            reason = error
        if time.monotonic() >= deadline:
            said = f": {reason.message}" if reason else ""
            raise VaultUnavailable(problem + said, remedy="look into Vault's log") from reason
        time.sleep(_POLL)


@dataclass(frozen=True)
class Leader:
    """What a node says of the active node.

    Attributes:
        address: its address; empty if the node knows of none.
        is_self: whether it is this node.
        applied: index of the last entry of Raft's log that this node has applied.
    """

    address: str
    is_self: bool
    applied: int

    @classmethod
    def known_to(cls, vault: Vault) -> Leader:
        """Ask a node. OpenBao leaves out what is false, empty or 0 (observed with 2.6.2)."""
        answer = vault.request("GET", "sys/leader")
        return cls(
            address=str(answer.get("leader_address", "")),
            is_self=bool(answer.get("is_self")),
            applied=int(answer.get("raft_applied_index", 0)),
        )


def serves(vault: Vault) -> bool:
    """Whether this node is active, or knows the active node."""
    health = vault.request("GET", "sys/health?standbyok=true&perfstandbyok=true")
    return not health["standby"] or _other_leads(vault)


def leads(vault: Vault) -> bool:
    """Whether this node is the active one."""
    return Leader.known_to(vault).is_self


def await_healthy(vault: Vault, timeout: float) -> None:
    """Wait until this node serves and has all that the leader has, and autopilot calls all nodes healthy.

    Args:
        vault: connection to this node; its token may read ``sys/storage/raft/autopilot/state``.
        timeout: how long to wait for each of these, in seconds; 0 looks once.

    Raises:
        VaultUnavailable: it did not become so in time.
        PermissionDenied: the token lacks a capability.
    """
    wait_for(lambda: serves(vault), f"{vault.url}: Vault does not serve", timeout)
    # Autopilot notices after seconds that a node was gone; what the node has applied tells at once.
    newest = wait_for(lambda: _leaders_index(vault), f"{vault.url}: the cluster has no leader", timeout)
    wait_for(
        lambda: Leader.known_to(vault).applied >= newest,
        f"{vault.url}: Vault has not caught up with the leader",
        timeout,
    )
    wait_for(lambda: _autopilot(vault)["healthy"], f"{vault.url}: a node of the cluster is not healthy", timeout)


def _autopilot(vault: Vault) -> dict[str, Any]:
    return vault.request("GET", "sys/storage/raft/autopilot/state")["data"] or {"healthy": False, "servers": {}}


def _leaders_index(vault: Vault) -> int:
    state = _autopilot(vault)
    leader = state["servers"].get(state.get("leader"))
    return int(leader["last_index"]) if leader else 0


def ensure_standby(vault: Vault, timeout: float, *, check: bool = False) -> bool:
    """Have another node lead, if this one does and is not the only one that could.

    Args:
        vault: connection to this node; its token may write ``sys/step-down`` (with sudo), and read
            ``sys/storage/raft/configuration``.
        timeout: how long to wait for another leader, in seconds.
        check: report what would change, and write nothing.

    Returns:
        Whether it led.

    Raises:
        VaultUnavailable: no other node led in time.
        PermissionDenied: the token lacks a capability.
    """
    if not leads(vault) or sum(peer.voter for peer in _peers(vault)) < 2:
        return False
    if not check:
        vault.request("POST", "sys/step-down")
        wait_for(lambda: _other_leads(vault), f"{vault.url}: no other node leads", timeout)
    return True


def _other_leads(vault: Vault) -> bool:
    leader = Leader.known_to(vault)
    return bool(leader.address) and not leader.is_self


@dataclass(frozen=True)
class Peer:
    """A node in Raft's configuration.

    Attributes:
        name: its ``node_id``.
        voter: whether it has a vote.
        healthy: what autopilot says of it.
    """

    name: str
    voter: bool
    healthy: bool


@dataclass(frozen=True)
class PeersOutcome:
    """What `remove_peers` did, or would do in check mode; names of nodes.

    Attributes:
        before: nodes that were found.
        removed: nodes that were removed.
        alive: nodes that are not wanted, but are healthy, and so were not removed.
    """

    before: list[str]
    removed: list[str]
    alive: list[str]

    @property
    def after(self) -> list[str]:
        """Nodes that are left."""
        return [name for name in self.before if name not in self.removed]


def remove_peers(vault: Vault, wanted: Collection[str], *, check: bool = False) -> PeersOutcome:
    """Remove the nodes from the cluster that are neither wanted nor healthy.

    Args:
        vault: connection whose token may read ``sys/storage/raft/configuration`` and
            ``sys/storage/raft/autopilot/state``, and write ``sys/storage/raft/remove-peer``.
        wanted: names (``node_id``) of the nodes that belong to the cluster, whether they are healthy or not.
        check: report what would change, and write nothing.

    Raises:
        ConfigError: the healthy ones among the wanted nodes would be no majority; nothing was removed.
        PermissionDenied: the token lacks a capability.
    """
    found = _peers(vault)
    removed = [peer.name for peer in found if peer.name not in wanted and not peer.healthy]
    voters = [peer for peer in found if peer.voter and peer.name not in removed]
    healthy = [peer.name for peer in voters if peer.healthy and peer.name in wanted]
    if removed and 2 * len(healthy) <= len(voters):
        raise ConfigError(
            f"nodes: the cluster has {', '.join(peer.name for peer in found)}; without {', '.join(removed)}, only"
            f" {', '.join(healthy) or 'none'} of the nodes given would be healthy, which is no majority",
            remedy="check the names, and start the other nodes",
        )
    if not check:
        for name in removed:
            vault.write("sys/storage/raft/remove-peer", {"server_id": name})
    alive = [peer.name for peer in found if peer.name not in wanted and peer.healthy]
    return PeersOutcome([peer.name for peer in found], removed, alive)


def _peers(vault: Vault) -> list[Peer]:
    servers = vault.request("GET", "sys/storage/raft/configuration")["data"]["config"]["servers"]
    states = _autopilot(vault)["servers"]
    return [
        Peer(
            str(server["node_id"]),
            bool(server["voter"]),
            bool(states.get(server["node_id"], {}).get("healthy")),
        )
        for server in sorted(servers, key=lambda server: str(server["node_id"]))
    ]
