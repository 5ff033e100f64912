"""What a run restarts: workloads in Kubernetes, or in a file for Git."""

from __future__ import annotations

from collections.abc import Sequence

from ..errors import ConfigError
from ..sealing.spec import SecretSpec
from ..servers.kubernetes import KubernetesClient
from .gitfile import WorkloadFile
from .live import LiveWorkloads


def find_workloads(
    kubernetes: KubernetesClient | None,
    specs: Sequence[SecretSpec],
    *,
    file: str | None = None,
    concurrency: int = 1,
    check: bool = False,
    waits: bool = False,
) -> LiveWorkloads | WorkloadFile | None:
    """Find what Secrets restart, before they are sealed.

    Args:
        kubernetes: None if the Secrets are not written to Kubernetes.
        specs: the Secrets.
        file: file of the workloads' manifests, in which they are stamped instead.
        concurrency: as of `LiveWorkloads`.
        check: write nothing, and say what would be done.
        waits: whether `LiveWorkloads.wait` will be called.

    Returns:
        None if nothing is to be restarted.

    Raises:
        ConfigError: options that do not go together.
        SecretManagerError: as of `LiveWorkloads.find` and `WorkloadFile.find`.
    """
    if not any(spec.restart for spec in specs):
        if file or waits:
            raise ConfigError("restart is missing: it names what is restarted, stamped in a file or waited for")
        return None
    if file and waits:
        raise ConfigError("restart_wait waits for workloads in Kubernetes, and a file of manifests is given for them")
    if not file and kubernetes is None:
        raise ConfigError(
            "nothing is written to Kubernetes, so nothing is restarted there",
            remedy="give the file of the workloads' manifests too, or apply",
        )
    workloads: LiveWorkloads | WorkloadFile
    if file or kubernetes is None:
        workloads = WorkloadFile(file or "", specs, check=check)
    else:
        workloads = LiveWorkloads(kubernetes, specs, concurrency=concurrency, check=check, waits=waits)
    workloads.find()
    return workloads
