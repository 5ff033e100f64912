"""The command kubevault inject and the KRM function: files, standard input, status."""

from __future__ import annotations

import io
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from secretmanager.commands.main import main
from secretmanager.injection.function import is_resource_list

POD = """\
# A pod.
apiVersion: v1
kind: Pod
metadata: {name: shop, namespace: shop}
spec:
  containers:
  - name: shop
    image: shop:1
"""
OPTIONS = [
    "--with=init",
    "--secret=shop-keys",
    "--vault-url=https://vault:8200",
    "--role=shop",
    "--image=registry.example.org/kubevault@sha256:0000000000000000000000000000000000000000000000000000000000000000",
]
SPEC = {
    "with": "init",
    "secrets": ["shop-keys"],
    "vaultUrl": "https://vault:8200",
    "role": "shop",
    "image": "registry.example.org/kubevault@sha256:0000000000000000000000000000000000000000000000000000000000000000",
}


Kubevault = Callable[..., "subprocess.CompletedProcess[str]"]


def process(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command as a process."""
    code = "from secretmanager.commands.main import main; main()"
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], input=given, capture_output=True, text=True, check=False
    )


@pytest.fixture
def kubevault(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Kubevault:
    """Runs the command in this process, whose imports would take longer than all else."""

    def run(*arguments: str | Path, given: str = "") -> subprocess.CompletedProcess[str]:
        monkeypatch.setattr(sys, "argv", ["kubevault", *map(str, arguments)])
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(given.encode())))
        with pytest.raises(SystemExit) as ended:
            main()
        assert isinstance(ended.value.code, int)
        return subprocess.CompletedProcess(arguments, ended.value.code, *capsys.readouterr())

    return run


def resource_list(items: list[Any], spec: Any = SPEC, **config: Any) -> str:
    function = {"apiVersion": "kubevault.io/v1", "kind": "KubevaultInject", "metadata": {"name": "shop"}, "spec": spec}
    content = {
        "apiVersion": "config.kubernetes.io/v1",
        "kind": "ResourceList",
        "items": items,
        "functionConfig": {**function, **config},
    }
    return yaml.safe_dump(content, sort_keys=False)


def test_standard_input_to_standard_output_and_back() -> None:
    done = process("inject", *OPTIONS, given=POD)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.startswith("# A pod.\napiVersion: v1\n")
    assert process("inject", *OPTIONS, given=done.stdout).stdout == done.stdout
    assert process("inject", "--remove", given=done.stdout).stdout == POD


def test_files_in_place(kubevault: Kubevault, tmp_path: Path) -> None:
    """Check and diff write nothing; status 1 says that something would change."""
    paths = [tmp_path / "a.yaml", tmp_path / "b.yaml"]
    for path in paths:
        path.write_text(POD)
        path.chmod(0o640)
    checked = kubevault("inject", "--check", "--in-place", *OPTIONS, *paths)
    assert (checked.returncode, checked.stdout, checked.stderr) == (1, "", "")
    shown = kubevault("inject", "--diff", *OPTIONS, *paths)
    assert shown.returncode == 0
    assert shown.stdout.count(f"--- {tmp_path}") == 2
    assert "+    kubevault.io/secrets: shop-keys" not in POD
    assert paths[0].read_text() == POD

    assert kubevault("inject", "--in-place", *OPTIONS, *paths).returncode == 0
    assert "name: kubevault\n" in paths[1].read_text()
    assert paths[1].stat().st_mode & 0o777 == 0o640
    again = kubevault("inject", "--check", "--diff", *OPTIONS, *paths)
    assert (again.returncode, again.stdout) == (0, "")
    assert kubevault("inject", "--in-place", "--remove", *paths).returncode == 0
    assert [path.read_text() for path in paths] == [POD, POD]


@pytest.mark.parametrize("text", [POD, POD.replace("    image: shop:1\n", ""), "a: [\n"])
def test_an_error_writes_nothing_of_any_file(kubevault: Kubevault, tmp_path: Path, text: str) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(POD)
    bad.write_text(text)
    done = kubevault("inject", "--in-place", *OPTIONS, "--container=other", good, bad)
    assert done.returncode == 1
    assert done.stderr == f"kubevault: {good}: Pod/shop: there is no container 'other'; it has shop\n"
    assert (good.read_text(), bad.read_text()) == (POD, text)


@pytest.mark.parametrize("text", ["a: [\n", POD.replace("name: shop\n", "name: kubevault\n")])
def test_an_error_in_the_last_file_writes_nothing_of_the_others(
    kubevault: Kubevault, tmp_path: Path, text: str
) -> None:
    good, bad = tmp_path / "good.yaml", tmp_path / "bad.yaml"
    good.write_text(POD)
    bad.write_text(text)
    done = kubevault("inject", "--in-place", *OPTIONS, good, bad)
    assert done.returncode == 1
    assert str(bad) in done.stderr
    assert (good.read_text(), bad.read_text()) == (POD, text)


def test_workloads_are_counted_over_all_files(kubevault: Kubevault, tmp_path: Path) -> None:
    """A file of a chart's may have none, or not the one that is meant; one that is nowhere is an error."""
    texts = {"a.yaml": POD, "b.yaml": POD.replace("name: shop,", "name: other,"), "c.yaml": "kind: ConfigMap\n"}
    paths = [tmp_path / name for name in texts]

    def written() -> list[str]:
        return [path.read_text() for path in paths]

    for path, text in zip(paths, texts.values(), strict=True):
        path.write_text(text)
    done = kubevault("inject", "--in-place", *OPTIONS, "--workload=Pod/other", "--workload=Pod/none", *paths)
    assert (done.returncode, done.stderr) == (
        1,
        "kubevault: 3 files: there is no Pod/none; there is Pod/shop, Pod/other\n",
    )
    assert written() == list(texts.values())
    assert kubevault("inject", "--in-place", *OPTIONS, "--workload=Pod/other", *paths).returncode == 0
    assert [text == before for text, before in zip(written(), texts.values(), strict=True)] == [True, False, True]
    assert kubevault("inject", "--in-place", "--remove", "--workload=Pod/other", *paths).returncode == 0
    assert written() == list(texts.values())
    none = kubevault("inject", "--in-place", *OPTIONS, paths[2], paths[2])
    assert (none.returncode, "holds no workload" in none.stderr) == (1, True)


def test_resources_and_what_else_is_about_our_container(kubevault: Kubevault) -> None:
    """The same from the command and the KRM function, and a second run keeps it."""
    options = [
        "--resources=limits.cpu=500m,limits.ephemeral-storage=64Mi",
        "--resources=requests.ephemeral-storage=1Mi",
    ]
    options += ["--image-pull-policy=Always", "--platform=openshift"]
    done = kubevault("inject", *OPTIONS, *options, given=POD)
    assert kubevault("inject", *OPTIONS, *options, given=done.stdout).stdout == done.stdout
    pod = yaml.safe_load(done.stdout)
    container = pod["spec"]["initContainers"][0]
    assert container["imagePullPolicy"] == "Always"
    assert container["resources"] == {
        "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "1Mi"},
        "limits": {"memory": "128Mi", "cpu": "500m", "ephemeral-storage": "64Mi"},
    }
    assert "securityContext" not in pod["spec"]
    resources = {"limits": {"cpu": "500m", "ephemeral-storage": "64Mi"}, "requests": {"ephemeral-storage": "1Mi"}}
    spec = {**SPEC, "resources": resources, "imagePullPolicy": "Always", "platform": "openshift"}
    listed = yaml.safe_load(kubevault("inject", given=resource_list([yaml.safe_load(POD)], spec)).stdout)
    assert listed["items"] == [pod]


def test_a_command_as_a_shell_reads_it(kubevault: Kubevault) -> None:
    options = ["--with=exec", *OPTIONS[1:]]
    for given in ("/bin/shop --name='a b'", "shop=/bin/shop '--name=a b'"):
        done = kubevault("inject", *options, "--command", given, given=POD)
        (container,) = yaml.safe_load(done.stdout)["spec"]["containers"]
        assert container["command"] == ["/kubevault/kubevault-exec", "/bin/shop", "--name=a b"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "Missing options --with, --secret, --vault-url, --role, --image."),
        (["--in-place", *OPTIONS], "--in-place needs a FILE"),
        (["a.yaml", "b.yaml", *OPTIONS], "several files need --in-place, --diff or --check"),
        (["--resources=cpu=1", *OPTIONS], "--resources: found 'cpu=1'; allowed is requests.NAME=QUANTITY"),
        (["nosuch.yaml", *OPTIONS], "kubevault: nosuch.yaml: No such file or directory"),
        (["--command=a 'b", *OPTIONS], "--command: No closing quotation"),
    ],
)
def test_what_is_wrong_is_said(kubevault: Kubevault, arguments: list[str], said: str) -> None:
    done = kubevault("inject", *arguments, given=POD)
    assert done.returncode in (1, 2)
    assert said in done.stderr
    assert done.stdout == ""


@pytest.mark.parametrize("arguments", [[], ["inject"]])
def test_a_resource_list_makes_it_a_krm_function(kubevault: Kubevault, arguments: list[str]) -> None:
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "shop"}}
    given = resource_list([service, yaml.safe_load(POD)])
    done = kubevault(*arguments, given=given)
    assert (done.returncode, done.stderr) == (0, "")
    found = yaml.safe_load(done.stdout)
    expected = yaml.safe_load(kubevault("inject", *OPTIONS, given=POD).stdout)
    assert found["items"] == [service, expected]
    reference = {"apiVersion": "v1", "kind": "Pod", "name": "shop", "namespace": "shop"}
    assert found["results"] == [{"message": "injected init", "severity": "info", "resourceRef": reference}]
    again = kubevault(*arguments, given=resource_list(found["items"]))
    assert again.stdout == resource_list(found["items"])


def test_an_image_without_a_digest_is_warned_of(kubevault: Kubevault) -> None:
    """Its tag can come to mean another program."""
    image = "registry.example.org/kubevault:0.1.0"
    said = f"image: found {image!r}, which has no digest"
    done = kubevault("inject", *OPTIONS, f"--image={image}", given=POD)
    assert (done.returncode, f"image: {image}" in done.stdout) == (0, True)
    assert done.stderr.startswith(f"kubevault: {said}")
    done = kubevault(given=resource_list([yaml.safe_load(POD)], {**SPEC, "image": image}))
    warning, injected = yaml.safe_load(done.stdout)["results"]
    assert (warning["severity"], warning["message"].startswith(said)) == ("warning", True)
    assert injected["severity"] == "info"
    both = f"--image={image}@sha256:{'0' * 64}"
    assert kubevault("inject", *OPTIONS, both, given=POD).stderr == ""


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (resource_list([yaml.safe_load(POD)], {**SPEC, "with": "webhook"}), "with: found 'webhook'"),
        (
            resource_list([yaml.safe_load(POD)], {**SPEC, "vault_url": "x"}),
            "there is no vault_url; names are as vaultUrl",
        ),
        (resource_list([yaml.safe_load(POD)], kind="ConfigMap"), "functionConfig: found kubevault.io/v1 ConfigMap"),
        (resource_list([yaml.safe_load(POD)], ["init"]), "allowed is kubevault.io/v1 KubevaultInject with a spec"),
        (resource_list([]), "items: holds no workload"),
    ],
)
def test_an_error_of_the_function_is_among_its_results(kubevault: Kubevault, given: str, said: str) -> None:
    done = kubevault(given=given)
    assert done.returncode == 1
    found = yaml.safe_load(done.stdout)
    assert [result["severity"] for result in found["results"]] == ["error"]
    assert said in found["results"][0]["message"]
    assert said in done.stderr
    assert found["items"] == yaml.safe_load(given)["items"]


@pytest.mark.parametrize("given", ["", POD])
def test_without_arguments_and_a_resource_list_it_shows_help(kubevault: Kubevault, given: str) -> None:
    done = kubevault(given=given)
    assert done.returncode == 2
    assert "Usage:" in done.stderr


def test_a_manifest_that_only_mentions_a_resource_list_is_none() -> None:
    assert not is_resource_list("apiVersion: v1\nkind: ConfigMap\ndata: {a: 'kind: ResourceList'}\n")
    assert is_resource_list('{"apiVersion": "config.kubernetes.io/v1", "kind": "ResourceList"}')
