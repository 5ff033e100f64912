"""The Lease of a rotation on the lab's Kubernetes API: one holder at a time, and its end."""

from __future__ import annotations

import subprocess
import sys
import threading
import uuid
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest
from kubernetes import client
from support.cluster import Cluster, own_namespace
from support.servers import Proxy, wait_until

from secretmanager.errors import Forbidden, LeaseHeld, SecretNotFound
from secretmanager.rotation.lease import Lease, held
from secretmanager.servers.kubernetes import KubernetesClient

HOLD = """
import sys, time
from secretmanager.rotation.lease import held
from secretmanager.servers.kubernetes import KubernetesClient
with held(KubernetesClient.from_kubeconfig(sys.argv[1]), *sys.argv[2:5], duration=int(sys.argv[5])):
    print("held", flush=True)
    time.sleep(600)
"""
"""A program that holds a Lease until it is killed."""


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with own_namespace("lease") as cluster:
        yield cluster


@pytest.fixture
def kubernetes(cluster: Cluster) -> Iterator[KubernetesClient]:
    kubernetes = cluster.kubernetes()
    yield kubernetes
    kubernetes.close()


@pytest.fixture
def name() -> str:
    return f"kubevault-rotation-{uuid.uuid4().hex[:8]}"


@pytest.fixture
def leases(cluster: Cluster) -> client.CoordinationV1Api:
    return client.CoordinationV1Api(cluster.api.api_client)


def is_lost(lease: Lease) -> bool:
    try:
        lease.check()
    except LeaseHeld:
        return True
    return False


def test_one_holds_it_and_another_is_told_who(
    cluster: Cluster, kubernetes: KubernetesClient, leases: client.CoordinationV1Api, name: str
) -> None:
    with held(kubernetes, cluster.namespace, name, "first", duration=9) as lease:
        with (
            pytest.raises(LeaseHeld, match="first holds it since") as caught,
            held(kubernetes, cluster.namespace, name),
        ):
            pytest.fail("two hold it")
        assert caught.value.holder == "first"
        lease.check()
        spec = leases.read_namespaced_lease(name, cluster.namespace).spec
        assert (spec.holder_identity, spec.lease_duration_seconds, spec.lease_transitions) == ("first", 9, 0)
        assert spec.renew_time > spec.acquire_time
    assert leases.read_namespaced_lease(name, cluster.namespace).spec.holder_identity is None
    with held(kubernetes, cluster.namespace, name, "second", duration=600):
        spec = leases.read_namespaced_lease(name, cluster.namespace).spec
        assert (spec.holder_identity, spec.lease_transitions) == ("second", 1)


def test_of_several_that_begin_together_one_holds_it(cluster: Cluster, kubernetes: KubernetesClient, name: str) -> None:
    start, refused, holders = threading.Barrier(4), threading.Semaphore(0), []

    def run() -> None:
        start.wait()
        try:
            with held(kubernetes, cluster.namespace, name, duration=9) as lease:
                holders.append(lease.holder)
                assert all(refused.acquire(timeout=60) for _ in range(3))
                lease.check()
        except LeaseHeld:
            refused.release()

    threads = [threading.Thread(target=run) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(holders) == 1


@pytest.mark.parametrize("holder", ["first", "second"])
def test_after_its_holder_was_killed_it_is_taken_over(
    cluster: Cluster, kubernetes: KubernetesClient, leases: client.CoordinationV1Api, name: str, holder: str
) -> None:
    """After its time; at once by the same holder, whose Lease would otherwise keep it out for 6,000 seconds."""
    duration = "3" if holder == "second" else "6000"
    command = [sys.executable, "-c", HOLD, cluster.kubeconfig, cluster.namespace, name, "first", duration]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as program:
        assert program.stdout
        assert program.stdout.readline() == b"held\n"
        program.kill()
    with held(kubernetes, cluster.namespace, name, holder) as lease:
        lease.check()
        spec = leases.read_namespaced_lease(name, cluster.namespace).spec
        assert (spec.holder_identity, spec.lease_transitions) == (holder, int(holder == "second"))


def test_a_holder_that_cannot_renew_it_stops_and_learns_who_took_over(
    cluster: Cluster, kubernetes: KubernetesClient, name: str, tmp_path: Path
) -> None:
    """A proxy refuses the first one's connections for a while."""
    proxy = Proxy(urlsplit(cluster.api.api_client.configuration.host).port or 0)
    token = cluster.account(f"user-{uuid.uuid4().hex[:8]}", [rule(name)])
    kubeconfig = cluster.kubeconfig_of(token, tmp_path, server=f"https://127.0.0.1:{proxy.port}")
    cut_off = KubernetesClient.from_kubeconfig(kubeconfig, retries=0, election_timeout=0)
    with held(cut_off, cluster.namespace, name, "first", duration=3) as first:
        proxy.refuse = True
        proxy.cut_all()
        wait_until("the end of its time", lambda: is_lost(first))
        with pytest.raises(LeaseHeld, match="could not be renewed for 3 s"):
            first.check()
        with held(kubernetes, cluster.namespace, name, "second", duration=600) as second:
            proxy.refuse = False
            wait_until("the news", lambda: first._taken_by is not None)
            with pytest.raises(LeaseHeld, match="taken over by second") as caught:
                first.check()
            assert caught.value.holder == "second"
            second.check()
    proxy.close()


def test_one_that_was_deleted_is_lost(
    cluster: Cluster, kubernetes: KubernetesClient, leases: client.CoordinationV1Api, name: str
) -> None:
    with held(kubernetes, cluster.namespace, name, duration=3) as lease:
        leases.delete_namespaced_lease(name, cluster.namespace)
        wait_until("the loss", lambda: is_lost(lease))
    with pytest.raises(client.ApiException, match="404"):
        leases.read_namespaced_lease(name, cluster.namespace)


def test_another_writer_s_annotation_does_not_end_it(
    cluster: Cluster, kubernetes: KubernetesClient, leases: client.CoordinationV1Api, name: str
) -> None:
    with held(kubernetes, cluster.namespace, name, duration=3) as lease:
        note = {"metadata": {"annotations": {"note": "of another tool"}}}
        since = leases.patch_namespaced_lease(name, cluster.namespace, note).spec.renew_time

        def renewed() -> bool:
            return leases.read_namespaced_lease(name, cluster.namespace).spec.renew_time > since

        wait_until("a renewal", renewed)
        lease.check()
    assert leases.read_namespaced_lease(name, cluster.namespace).metadata.annotations == {"note": "of another tool"}


def rule(name: str) -> dict[str, list[str]]:
    return {
        "apiGroups": ["coordination.k8s.io"],
        "resources": ["leases"],
        "resourceNames": [name],
        "verbs": ["get", "create", "update"],
    }


def test_rights_on_its_name_are_enough_and_only_for_it(cluster: Cluster, name: str, tmp_path: Path) -> None:
    token = cluster.account(f"user-{uuid.uuid4().hex[:8]}", [rule(name)])
    limited = KubernetesClient.from_kubeconfig(cluster.kubeconfig_of(token, tmp_path))
    for _ in range(2):  # it is created, and then updated
        with held(limited, cluster.namespace, name) as lease:
            lease.check()
    with pytest.raises(Forbidden, match="another"), held(limited, cluster.namespace, "another"):
        pytest.fail("no right")
    body = {"metadata": {"name": "another"}, "spec": {"holderIdentity": "somebody"}}
    with pytest.raises(Forbidden, match="another"):
        limited.put_lease(cluster.namespace, body)


def test_a_namespace_that_is_not_there(kubernetes: KubernetesClient, name: str) -> None:
    with pytest.raises(SecretNotFound, match='"nowhere" not found'), held(kubernetes, "nowhere", name):
        pytest.fail("no namespace")
