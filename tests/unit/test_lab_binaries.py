"""Sources of the lab's programs: versions, order, names, checksums."""

from __future__ import annotations

import ast
import dataclasses
import io
import re
import threading
from pathlib import Path
from urllib.parse import urlsplit

import pytest
import urllib3
import yaml
from support.servers import PATIENCE

from kubevault_lab import gobuild, releases
from kubevault_lab.binaries import Provider, parse_version, variable
from kubevault_lab.cache import Cache, target_platform
from kubevault_lab.errors import BuildError, LabError
from kubevault_lab.progress import Progress, duration
from kubevault_lab.projects import NODE_PROGRAMS, PROGRAMS, PROJECTS, SERVER_PROGRAMS, TOOLS, Project
from kubevault_lab.releases import Downloader, published_checksum

ETCD, KUBERNETES, VAULT = PROJECTS
ROLE = Path(__file__).parents[2] / "roles/lab-binaries"
SUM = "0123456789abcdef" * 4
OTHER = "f" * 64


def go_mod(tools: Path, text: str) -> Path:
    """Write the go.mod of etcd's folder in tools/."""
    (tools / "etcd").mkdir(exist_ok=True)
    (tools / "etcd/go.mod").write_text(text)
    return tools


def script(path: Path, text: str) -> Path:
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def said() -> io.StringIO:
    return io.StringIO()


@pytest.fixture
def provider(tmp_path: Path, said: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> Provider:
    """etcd 3.6.8 is pinned; PATH is the folder "path", the cache the folder "cache", both without programs."""
    (tmp_path / "path").mkdir()
    (tmp_path / "cache").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    go_mod(tmp_path, "module kubevault.lab/etcd\ngo 1.24.0\nrequire go.etcd.io/etcd/server/v3 v3.6.8\n")
    return Provider(Cache(tmp_path / "cache"), tools=tmp_path, projects=(ETCD,), progress=Progress(said))


# Versions


@pytest.mark.parametrize(
    "text",
    [
        "require go.etcd.io/etcd/server/v3 v3.6.8",
        "require (\n\tgo.etcd.io/etcd/server/v3 v3.6.8 // indirect\n)",
        "require (\n\tgo.etcd.io/etcd/server/v3/extra v9.9.9\n\tgo.etcd.io/etcd/server/v3 v3.6.8\n)",
        "replace go.etcd.io/etcd/server/v3 => example.org/x v1.0.0\nrequire go.etcd.io/etcd/server/v3 v3.6.8",
        "replace (\n\tgo.etcd.io/etcd/server/v3 v3.0.0 => ./x\n)\nrequire go.etcd.io/etcd/server/v3 v3.6.8",
        "tool go.etcd.io/etcd/server/v3\nrequire go.etcd.io/etcd/server/v3 v3.6.8",
    ],
)
def test_the_version_is_the_one_that_go_mod_requires(tmp_path: Path, text: str) -> None:
    assert ETCD.version(go_mod(tmp_path, text + "\n")) == "3.6.8"


def test_a_go_mod_without_the_project_is_an_error(tmp_path: Path) -> None:
    go_mod(tmp_path, "module x\ntool go.etcd.io/etcd/server/v3\n")
    with pytest.raises(LabError, match=r"requires no version of go\.etcd\.io/etcd/server/v3"):
        ETCD.version(tmp_path)


def test_a_missing_go_mod_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(LabError, match=r"etcd/go\.mod: No such file"):
        ETCD.version(tmp_path)


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_this_repository_pins_what_it_builds(project: Project) -> None:
    assert project.version(TOOLS)
    assert gobuild.required_go(TOOLS / project.name)
    tools = (TOOLS / project.name / "go.mod").read_text()
    for package in project.packages.values():
        assert f"{package}\n" in tools, "no tool line: go mod tidy would drop it"


@pytest.mark.parametrize(
    ("output", "version"),
    [
        ("etcd Version: 3.6.8\nGit SHA: Not provided\nGo Version: go1.26.8\nGo OS/Arch: linux/amd64\n", "3.6.8"),
        ("Kubernetes v1.36.3\n", "1.36.3"),
        ("Kubernetes v1.36.3-k3s1\n", "1.36.3-k3s1"),
        ("Vault v1.21.0, built 2025-11-24T11:25:30Z (cgo)\n", "1.21.0"),
        ("Vault v1.21.0 (abcdef), built 2025-10-21T10:33:08Z\n", "1.21.0"),
        ("Vault v1.21.0+ent, built 2025-10-21T10:33:08Z\n", "1.21.0+ent"),
        ("no version here\n", None),
        ("", None),
    ],
)
def test_a_program_says_its_version(output: str, version: str | None) -> None:
    assert parse_version(output) == version


# Order


def test_a_given_path_comes_first(provider: Provider, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(tmp_path / "path/etcd", "echo etcd Version: 3.6.8")
    script(provider.destination("etcd"), "")
    given = script(tmp_path / "mine", "")
    monkeypatch.setenv("KUBEVAULT_ETCD", str(given))
    assert Provider.from_environment(cache=str(provider.cache.folder)).given == {"etcd": given}
    found = Provider(provider.cache, {"etcd": given}, tools=tmp_path, projects=(ETCD,)).locate()
    assert found == {"etcd": given}


def test_path_with_the_pinned_version_comes_before_the_cache(provider: Provider, tmp_path: Path) -> None:
    on_path = script(tmp_path / "path/etcd", '[ "$*" = --version ] && echo etcd Version: 3.6.8')
    script(provider.destination("etcd"), "")
    assert provider.locate() == {"etcd": on_path}


@pytest.mark.parametrize("text", ["echo etcd Version: 3.5.0", "echo 3.6.8; exit 1", "echo no version"])
def test_path_with_another_version_is_not_used(
    provider: Provider, tmp_path: Path, said: io.StringIO, text: str
) -> None:
    on_path = script(tmp_path / "path/etcd", text)
    cached = script(provider.destination("etcd"), "")
    assert provider.locate() == {"etcd": cached}
    assert f"{on_path} is not used: its version is" in said.getvalue()
    assert "not 3.6.8" in said.getvalue()


def test_what_is_cached_is_not_run(provider: Provider, tmp_path: Path) -> None:
    script(provider.destination("etcd"), f"touch {tmp_path}/ran")
    assert provider.provide() == {"etcd": provider.destination("etcd")}
    assert not (tmp_path / "ran").exists()


def test_what_is_nowhere_is_missing_and_nothing_is_written(provider: Provider) -> None:
    script(provider.cache.path("etcd", "3.5.0"), "")
    assert provider.locate() == {"etcd": None}
    assert provider.destination("etcd").name.startswith("etcd-3.6.8-")
    assert [file.name for file in provider.cache.folder.iterdir()] == [provider.cache.path("etcd", "3.5.0").name]


@pytest.mark.parametrize("file", ["go.mod", "go.sum"])
def test_another_pin_is_another_program(provider: Provider, tmp_path: Path, file: str) -> None:
    """Not only the version counts: go.sum determines the sources, and go.mod the dependencies."""
    cached = script(provider.destination("etcd"), "")
    assert provider.locate() == {"etcd": cached}
    path = tmp_path / "etcd" / file
    path.write_text((path.read_text() if path.exists() else "") + "// another\n")
    assert provider.locate() == {"etcd": None}


def test_other_flags_of_a_build_are_another_program(provider: Provider, tmp_path: Path) -> None:
    script(provider.destination("etcd"), "")
    other = dataclasses.replace(ETCD, ldflags=lambda version: "-s")
    assert Provider(provider.cache, tools=tmp_path, projects=(other,)).locate() == {"etcd": None}


@pytest.mark.parametrize(
    ("name", "mode", "fault"),
    [("gone", None, "is not a file"), ("folder", None, "is not a file"), ("plain", 0o644, "is not executable")],
)
def test_a_given_path_that_is_no_program_is_an_error(
    provider: Provider, tmp_path: Path, name: str, mode: int | None, fault: str
) -> None:
    (tmp_path / "folder").mkdir()
    if mode:
        (tmp_path / name).touch(mode)
    wrong = Provider(provider.cache, {"etcd": tmp_path / name}, tools=tmp_path, projects=(ETCD,))
    with pytest.raises(LabError, match=f"KUBEVAULT_ETCD: found {tmp_path / name}, which {fault}"):
        wrong.locate()


def test_an_unknown_program_is_an_error(provider: Provider) -> None:
    with pytest.raises(LabError, match="no program etcdd; there are etcd"):
        provider.locate(["etcdd"])


# Settings and names


@pytest.mark.parametrize(
    ("environment", "folder"),
    [
        ({}, "/home/me/.cache/kubevault"),
        ({"XDG_CACHE_HOME": ""}, "/home/me/.cache/kubevault"),
        ({"XDG_CACHE_HOME": "/var/cache/me"}, "/var/cache/me/kubevault"),
        ({"XDG_CACHE_HOME": "relative"}, "/home/me/.cache/kubevault"),
        ({"XDG_CACHE_HOME": "/var/cache/me", "KUBEVAULT_CACHE": "/srv/programs"}, "/srv/programs"),
        ({"KUBEVAULT_CACHE": "~/programs"}, "/home/me/programs"),
        ({"KUBEVAULT_CACHE": ""}, "/home/me/.cache/kubevault"),
    ],
)
def test_the_cache_folder(environment: dict[str, str], folder: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", "/home/me")
    for name in ("XDG_CACHE_HOME", "KUBEVAULT_CACHE"):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    assert Provider.from_environment().cache.folder == Path(folder)


def test_arguments_come_before_the_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBEVAULT_CACHE", "/a")
    monkeypatch.setenv("KUBEVAULT_MIRROR", "https://a.example")
    monkeypatch.setenv("KUBEVAULT_ETCD", "/a/etcd")
    monkeypatch.setenv("KUBEVAULT_VAULT", "/a/vault")
    found = Provider.from_environment(given={"etcd": "/b/etcd"}, cache="/b", mirror="https://b.example")
    assert found.cache.folder == Path("/b")
    assert found.mirror == "https://b.example"
    assert found.given == {"etcd": Path("/b/etcd"), "vault": Path("/a/vault")}


def test_environment_variables() -> None:
    assert [variable(program) for program in PROGRAMS] == [
        "KUBEVAULT_ETCD",
        "KUBEVAULT_KUBE_APISERVER",
        "KUBEVAULT_KUBE_CONTROLLER_MANAGER",
        "KUBEVAULT_KUBE_SCHEDULER",
        "KUBEVAULT_KUBELET",
        "KUBEVAULT_KUBECTL",
        "KUBEVAULT_VAULT",
    ]


def test_a_name_in_the_cache_has_version_and_platform(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("platform.system", lambda: "Linux")
    monkeypatch.setattr("platform.machine", lambda: "aarch64")
    assert Cache(tmp_path).path("vault", "1.21.0") == tmp_path / "vault-1.21.0-linux-arm64"
    monkeypatch.setattr("platform.machine", lambda: "x86_64")
    assert target_platform() == ("linux", "amd64")
    monkeypatch.setattr("platform.machine", lambda: "riscv64")
    assert target_platform() == ("linux", "riscv64")


def test_the_role_offers_every_program() -> None:
    module = ast.parse((ROLE / "library/lab_binaries.py").read_text())
    documentation = next(
        ast.literal_eval(node.value)
        for node in module.body
        if isinstance(node, ast.Assign) and ast.unparse(node.targets[0]) == "DOCUMENTATION"
    )
    names = yaml.safe_load(documentation)["options"]["names"]
    specs = yaml.safe_load((ROLE / "meta/argument_specs.yml").read_text())["argument_specs"]["main"]["options"]
    defaults = yaml.safe_load((ROLE / "defaults/main.yml").read_text())
    node = yaml.safe_load((ROLE / "vars/main.yml").read_text())["lab_binaries_node_names"]
    assert names["choices"] == list(PROGRAMS)
    assert names["default"] == list(SERVER_PROGRAMS)
    assert specs["lab_binaries_names"]["choices"] == defaults["lab_binaries_names"] == list(SERVER_PROGRAMS)
    assert node == list(NODE_PROGRAMS)
    assert list(specs["lab_binaries_given"]["options"]) == list(PROGRAMS)
    assert set(specs) == set(defaults)


# Releases


def test_releases_are_where_upstream_has_them() -> None:
    etcd = ETCD.release("etcd", "3.6.8", "linux", "amd64")
    base = "https://github.com/etcd-io/etcd/releases/download/v3.6.8"
    assert etcd.url == f"{base}/etcd-v3.6.8-linux-amd64.tar.gz"
    assert etcd.checksums_url == f"{base}/SHA256SUMS"
    assert etcd.member == "etcd-v3.6.8-linux-amd64/etcd"
    apiserver = KUBERNETES.release("kube-apiserver", "1.36.3", "linux", "arm64")
    assert apiserver.url == "https://dl.k8s.io/v1.36.3/bin/linux/arm64/kube-apiserver"
    assert apiserver.checksums_url == f"{apiserver.url}.sha256"
    assert not apiserver.member
    vault = VAULT.release("vault", "1.21.0", "linux", "amd64")
    assert vault.url == "https://releases.hashicorp.com/vault/1.21.0/vault_1.21.0_linux_amd64.zip"
    assert vault.checksums_url == "https://releases.hashicorp.com/vault/1.21.0/vault_1.21.0_SHA256SUMS"
    assert vault.member == "vault"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        (SUM, SUM),
        (f"{SUM}\n", SUM),
        (SUM.upper(), SUM),
        (f"{OTHER}  other.zip\n{SUM}  file.zip\n", SUM),
        (f"{SUM} *file.zip\n", SUM),
        (f"{SUM}  ./file.zip\r\n", SUM),
        (f"{OTHER}  file.zip.sig\n{OTHER}  my-file.zip\n", None),
        (f"{SUM[:-1]}  file.zip\n", None),
        (f"{SUM}0\n", None),
        (f"{SUM[:-1]}g  file.zip\n", None),
        ("<html>not found</html>", None),
        ("", None),
    ],
)
def test_checksums_as_upstream_publishes_them(text: str, found: str | None) -> None:
    assert published_checksum(text, "file.zip") == found


@pytest.mark.parametrize(
    "mirror", ["https://mirror.example", "http://127.0.0.1:8000", "http://localhost/releases/", "http://[::1]:8000"]
)
def test_a_mirror_has_files_under_host_and_path(mirror: str) -> None:
    found = Downloader(mirror, Progress(io.StringIO())).location("https://dl.k8s.io/v1/x.sha256")
    assert found == mirror.rstrip("/") + "/dl.k8s.io/v1/x.sha256"


@pytest.mark.parametrize("mirror", ["http://mirror.example", "ftp://127.0.0.1", "mirror.example", "https://"])
def test_a_mirror_that_proves_nothing_is_refused(mirror: str) -> None:
    with pytest.raises(LabError, match=f"KUBEVAULT_MIRROR: found {mirror}; give an https"):
        Downloader(mirror, Progress(io.StringIO()))


def test_the_proxy_of_the_environment_is_used_but_for_loopback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    monkeypatch.setenv("no_proxy", "direct.example")
    kinds = {
        host: type(releases._pool_manager(urlsplit(f"https://{host}/x")))
        for host in ("dl.k8s.io", "direct.example", "127.0.0.1:8443")
    }
    assert kinds == {
        "dl.k8s.io": urllib3.ProxyManager,
        "direct.example": urllib3.PoolManager,
        "127.0.0.1:8443": urllib3.PoolManager,
    }


# Builds


@pytest.mark.parametrize(
    ("package", "name"),
    [
        ("go.etcd.io/etcd/server/v3", "server"),
        ("k8s.io/kubernetes/cmd/kube-apiserver", "kube-apiserver"),
        ("github.com/hashicorp/vault", "vault"),
    ],
)
def test_a_program_is_named_as_go_build_does(package: str, name: str) -> None:
    assert gobuild.executable_name(package) == name


def test_what_go_has_compiled_before_is_not_counted() -> None:
    listed = [
        "false ",
        "true build ID mismatch",
        "true stale dependency: internal/cpu",
        "true not installed but available in build cache",
    ]
    assert gobuild._stale(listed) == 2


def test_kubernetes_is_told_its_version() -> None:
    assert KUBERNETES.ldflags("1.36.3") == (
        "-s -w -X k8s.io/component-base/version.gitVersion=v1.36.3"
        " -X k8s.io/component-base/version.gitMajor=1 -X k8s.io/component-base/version.gitMinor=36"
    )
    assert ETCD.ldflags("3.6.8") == VAULT.ldflags("1.21.0") == "-s -w"


@pytest.mark.parametrize("answer", ["go version go1.24.0 linux/amd64", "go version go1.26.8 linux/amd64"])
def test_go_is_new_enough(provider: Provider, tmp_path: Path, answer: str) -> None:
    script(tmp_path / "path/go", f"echo {answer}")
    gobuild.check_go(tmp_path / "etcd")


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("echo go version go1.9.7 linux/amd64", "Go 1.9.7"),
        ("echo go version go1.23.12 linux/amd64", "Go 1.23.12"),
        ("echo go: download go1.24.0: no such host >&2; exit 1", "go: download go1.24.0: no such host"),
    ],
)
def test_go_is_too_old(provider: Provider, tmp_path: Path, text: str, found: str) -> None:
    # A fake Go, because the installed one is new enough.
    script(tmp_path / "path/go", text)
    with pytest.raises(BuildError, match=rf"needs Go 1\.24\.0 or newer; found: {found}"):
        gobuild.check_go(tmp_path / "etcd")


def test_go_is_missing(provider: Provider, tmp_path: Path) -> None:
    with pytest.raises(BuildError, match=r"Go is not installed .* needs Go 1\.24\.0 or newer"):
        gobuild.check_go(tmp_path / "etcd")


# Progress


class Watched(io.StringIO):
    """A stream that sets an event when a text has been written to it."""

    def __init__(self, wanted: str, terminal: bool) -> None:
        super().__init__()
        self.wanted, self.terminal, self.seen = wanted, terminal, threading.Event()

    def isatty(self) -> bool:
        return self.terminal

    def write(self, text: str) -> int:
        if self.wanted in text:
            self.seen.set()
        return super().write(text)


@pytest.mark.parametrize(("terminal", "start", "end"), [(True, "\r\x1b[K", "\r\x1b[K"), (False, "", "\n")])
def test_a_task_shows_its_state(terminal: bool, start: str, end: str) -> None:
    stream = Watched("vault: building, package 3 of 9, ", terminal)
    with Progress(stream, interval=0.001).task("vault: building", lambda: "package 3 of 9"):
        assert stream.seen.wait(PATIENCE)
    assert re.search(rf"{re.escape(start)}vault: building, package 3 of 9, \d+ s", stream.getvalue())
    assert stream.getvalue().endswith(end)


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0 s"), (59.4, "59 s"), (59.6, "1 min 0 s"), (125, "2 min 5 s")])
def test_durations(seconds: float, text: str) -> None:
    assert duration(seconds) == text
