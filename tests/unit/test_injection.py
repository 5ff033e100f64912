"""What kubevault inject does to a manifest: each kind, each way, twice the same, and out again byte for byte."""

from __future__ import annotations

import copy
import json
from decimal import Decimal
from itertools import combinations, product
from typing import Any

import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from secretmanager.errors import ConfigError
from secretmanager.injection.options import Injection, from_options, quantity
from secretmanager.injection.pods import KINDS, injected, removed
from secretmanager.injection.text import with_injection, without_injection
from secretmanager.login.methods import TOKEN_FILE

WAYS = ("init", "sidecar", "exec")
TOKEN = {"audience": "vault", "expirationSeconds": 600, "path": TOKEN_FILE.name}
OPTIONS = {
    "secrets": ["shop-database/dsn", "shop-keys"],
    "vault_url": "https://vault.example.org:8200",
    "role": "shop",
    "image": "registry.example.org/kubevault@sha256:0000000000000000000000000000000000000000000000000000000000000000",
}


def injection(way: str = "init", **more: Any) -> Injection:
    return from_options({"with": way, **OPTIONS, **more})


def manifest(kind: str, pod: dict[str, Any] | None = None) -> dict[str, Any]:
    spec: dict[str, Any] = pod or {"containers": [{"name": "shop", "image": "shop:1", "command": ["shop"]}]}
    template = {"metadata": {"labels": {"app": "shop"}}, "spec": spec}
    metadata = {"name": "shop", "namespace": "shop"}
    match kind:
        case "Pod":
            return {"apiVersion": "v1", "kind": kind, "metadata": metadata, "spec": spec}
        case "Job":
            return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": {"template": template}}
        case "CronJob":
            job = {"schedule": "0 0 * * *", "jobTemplate": {"spec": {"template": template}}}
            return {"apiVersion": "batch/v1", "kind": kind, "metadata": metadata, "spec": job}
    selector = {"matchLabels": {"app": "shop"}}
    return {
        "apiVersion": "apps/v1",
        "kind": kind,
        "metadata": metadata,
        "spec": {"selector": selector, "template": template},
    }


def pod_of(content: dict[str, Any]) -> dict[str, Any]:
    """Return the spec of the pods."""
    spec = content["spec"]
    if content["kind"] == "CronJob":
        spec = spec["jobTemplate"]["spec"]
    found: dict[str, Any] = spec if content["kind"] == "Pod" else spec["template"]["spec"]
    return found


class Indented(yaml.SafeDumper):
    def increase_indent(self, flow: bool = False, indentless: bool = False) -> Any:
        return super().increase_indent(flow, False)


# How people and programs write manifests.
STYLES = {
    "block": lambda content: "# by hand\n" + yaml.safe_dump(content, sort_keys=False) + "# the end\n",
    "indented": lambda content: yaml.dump(content, Dumper=Indented, sort_keys=False, indent=4),
    "sorted": lambda content: "---\n" + yaml.safe_dump(content),
    "flow": lambda content: yaml.safe_dump(content, default_flow_style=True, width=60),
    "json": lambda content: json.dumps(content, indent=2) + "\n",
    "compact json": lambda content: json.dumps(content, separators=(",", ":")),
    "odd json": lambda content: json.dumps(content, indent=1).replace('": ', '" :  '),
    "CRLF": lambda content: yaml.safe_dump(content, sort_keys=False).replace("\n", "\r\n"),
    "no line end": lambda content: yaml.safe_dump(content, sort_keys=False).rstrip("\n"),
    "List": lambda content: yaml.safe_dump({"apiVersion": "v1", "kind": "List", "items": [{"kind": "Other"}, content]}),
    "documents": lambda content: (
        "# Helm's\n---\n---\nkind: ConfigMap\ndata: {a:   b}\n---\n" + yaml.safe_dump(content) + "---\n\n# nothing\n"
    ),
}


# Each kind in each style, with the ways in turn (a Latin square), so that each pair of two of them occurs. Any three
# occur in test_any_pod_in_any_style.
CASES = [
    (kind, WAYS[(row + column) % len(WAYS)], style)
    for row, kind in enumerate(KINDS)
    for column, style in enumerate(STYLES)
]


def test_every_pair_of_kind_way_and_style_occurs() -> None:
    kinds, ways, styles = ({case[position] for case in CASES} for position in range(3))
    assert (kinds, ways, styles) == (set(KINDS), set(WAYS), set(STYLES))
    for one, other in combinations(range(3), 2):
        values = [{case[position] for case in CASES} for position in (one, other)]
        assert {(case[one], case[other]) for case in CASES} == set(product(*values))


@pytest.mark.parametrize(("kind", "way", "style"), CASES)
def test_text_of_each_kind(kind: str, way: str, style: str) -> None:
    content = manifest(kind)
    text = STYLES[style](content)
    new = with_injection(text, "file", injection(way))

    found = [each for each in yaml.safe_load_all(new) if each]
    found = found[0]["items"] if found[0].get("kind") == "List" else found
    assert injected(content, injection(way)) in found
    assert with_injection(new, "file", injection(way)) == new
    assert without_injection(new, "file") == text
    if style == "CRLF":
        assert new.count("\n") == new.count("\r\n")
    for line in text.splitlines():
        if "json" not in style and "command" not in line and style != "flow":
            assert line in new.splitlines()


@pytest.mark.parametrize("before", WAYS)
@pytest.mark.parametrize("after", WAYS)
def test_another_way_takes_the_place_of_the_one_before(before: str, after: str) -> None:
    text = STYLES["block"](manifest("Deployment"))
    once = with_injection(text, "file", injection(before))
    assert with_injection(once, "file", injection(after)) == with_injection(text, "file", injection(after)) or (
        yaml.safe_load(with_injection(once, "file", injection(after)))
        == injected(manifest("Deployment"), injection(after))
    )


def test_what_is_added_by_exec() -> None:
    pod = pod_of(injected(manifest("Deployment"), injection("exec")))
    assert pod["containers"] == [
        {
            "name": "shop",
            "image": "shop:1",
            "command": ["/kubevault/kubevault-exec", "shop"],
            "volumeMounts": [{"name": "kubevault", "mountPath": "/kubevault", "readOnly": True}],
        }
    ]
    (container,) = pod["initContainers"]
    assert container["args"] == [
        "files",
        "--to=/kubevault",
        "--secret=$(POD_NAMESPACE)/shop-database/dsn",
        "--secret=$(POD_NAMESPACE)/shop-keys",
        "--exec",
    ]
    assert {item["name"]: item.get("value") for item in container["env"]} == {
        "POD_NAMESPACE": None,
        "VAULT_ADDR": "https://vault.example.org:8200",
        "VAULT_CACERT": "/etc/kubevault/ca.crt",
        "KUBEVAULT_AUTH_METHOD": "kubernetes",
        "KUBEVAULT_ROLE": "shop",
    }
    assert pod["volumes"] == [
        {"name": "kubevault", "emptyDir": {"medium": "Memory", "sizeLimit": "16Mi"}},
        {"name": "kubevault-ca", "configMap": {"name": "kubevault-ca"}},
        {"name": "kubevault-vault-token", "projected": {"sources": [{"serviceAccountToken": TOKEN}]}},
    ]
    assert pod["securityContext"] == {"fsGroup": 65532}


def test_the_annotation_names_each_secret_once() -> None:
    found = injected(manifest("Job"), injection(secrets=["a/x", "a/y", "b"]))
    assert found["metadata"]["annotations"]["kubevault.io/secrets"] == "a,b"
    assert not pod_of(found).get("annotations")


def test_the_values_exist_before_other_init_containers_and_programs() -> None:
    """A sidecar counts as started only once it has written them."""
    pod = {"initContainers": [{"name": "migrate"}], "containers": [{"name": "shop"}]}
    found = pod_of(injected(manifest("Deployment", pod), injection("sidecar")))
    assert [item["name"] for item in found["initContainers"]] == ["kubevault", "migrate"]
    assert found["initContainers"][0]["restartPolicy"] == "Always"
    assert found["initContainers"][0]["startupProbe"]["exec"]["command"] == ["kubevault", "ready", "/kubevault"]


@pytest.mark.parametrize(
    ("pod", "own", "given", "user", "group"),
    [
        ({}, {}, None, None, 65532),
        ({"fsGroup": 7}, {"runAsUser": 5}, None, None, 7),
        ({"runAsUser": 5, "runAsGroup": 6}, {}, None, (5, 6), None),
        ({"runAsUser": 5}, {"runAsUser": 8}, None, (8, None), None),
        ({}, {}, 9, (9, None), None),
        ({"runAsUser": 0}, {}, None, (65532, 65532), 65532),
        ({"runAsUser": 0, "fsGroup": 7}, {}, None, (65532, 65532), 7),
        ({"runAsUser": 0}, {"runAsUser": 5}, None, (5, None), None),
    ],
)
def test_who_owns_the_values(
    pod: dict[str, int], own: dict[str, int], given: int | None, user: tuple[int, int | None] | None, group: int | None
) -> None:
    """The user of the programs, where the manifest says which; else the group that all containers of the pod share."""
    spec = {"securityContext": dict(pod), "containers": [{"name": "shop", "securityContext": own}]}
    found = pod_of(injected(manifest("Deployment", spec), injection(user=given)))
    context = found["initContainers"][0]["securityContext"]
    assert (context.get("runAsUser"), context.get("runAsGroup")) == (user or (None, None))
    assert found["securityContext"].get("fsGroup") == group
    assert removed(injected(manifest("Deployment", spec), injection(user=given))) == manifest("Deployment", spec)


def test_programs_of_two_users_share_a_group() -> None:
    users = [{"name": f"c{user}", "securityContext": {"runAsUser": user}} for user in (5, 6)]
    assert pod_of(injected(manifest("Pod", {"containers": users}), injection()))["securityContext"] == {
        "fsGroup": 65532
    }


def test_our_container_mounts_the_token_that_the_others_shall_not_have() -> None:
    pod = {"automountServiceAccountToken": False, "containers": [{"name": "shop"}]}
    found = pod_of(injected(manifest("Deployment", pod), injection()))
    assert "kubevault-token" in [mount["name"] for mount in found["initContainers"][0]["volumeMounts"]]
    assert [mount["name"] for mount in found["containers"][0]["volumeMounts"]] == ["kubevault"]
    assert found["volumes"][-1]["projected"]["sources"][0] == {"serviceAccountToken": {"path": "token"}}


def test_a_token_for_vault_is_where_the_client_looks_and_in_our_container_alone() -> None:
    found = pod_of(injected(manifest("Deployment"), injection(arguments=["--audience", "vault-eu"])))
    (ours,) = found["initContainers"]
    (mount,) = [mount for mount in ours["volumeMounts"] if mount["name"] == "kubevault-vault-token"]
    assert mount == {"name": "kubevault-vault-token", "mountPath": str(TOKEN_FILE.parent), "readOnly": True}
    assert [mount["name"] for mount in found["containers"][0]["volumeMounts"]] == ["kubevault"]
    assert found["volumes"][-1]["projected"]["sources"] == [{"serviceAccountToken": {**TOKEN, "audience": "vault-eu"}}]


def test_what_an_older_version_injected_gets_the_token_and_loses_all_of_it_again() -> None:
    older = injected(manifest("Deployment"), injection())
    pod = pod_of(older)
    for items in (pod["volumes"], pod["initContainers"][0]["volumeMounts"]):
        items[:] = [item for item in items if item["name"] != "kubevault-vault-token"]
    assert injected(older, injection()) == injected(manifest("Deployment"), injection())
    assert removed(older) == manifest("Deployment")


def test_only_the_containers_that_are_named() -> None:
    pod = {"initContainers": [{"name": "migrate"}], "containers": [{"name": "shop"}, {"name": "proxy"}]}
    found = pod_of(injected(manifest("Pod", pod), injection(containers=["migrate", "shop"])))
    mounted = [item["name"] for item in found["initContainers"] + found["containers"] if item.get("volumeMounts")]
    assert mounted == ["kubevault", "migrate", "shop"]


def test_a_command_that_the_manifest_lacks_is_given_and_goes_again() -> None:
    pod = {"containers": [{"name": "shop", "image": "shop:1", "args": ["-v"]}]}
    given = injection("exec", command={"": ["/bin/shop", "serve"]})
    new = injected(manifest("Pod", pod), given)
    assert pod_of(new)["containers"][0]["command"] == ["/kubevault/kubevault-exec", "/bin/shop", "serve"]
    assert pod_of(new)["containers"][0]["args"] == ["-v"]
    assert injected(new, given) == new
    assert removed(new) == manifest("Pod", pod)


def test_fields_that_were_empty_are_empty_again() -> None:
    text = """\
apiVersion: apps/v1
kind: Deployment
metadata:
  name: shop
  annotations: {}
spec:
  template:
    spec:
      securityContext: {}   # as `helm create` has it
      initContainers: []
      volumes: []  # none
      containers:
      - name: shop
        volumeMounts: []
"""
    new = with_injection(text, "file", injection())
    assert with_injection(new, "file", injection()) == new
    assert yaml.safe_load(without_injection(new, "file")) == yaml.safe_load(text)
    assert without_injection(new, "file").replace(" # ", "  # ").split() == text.split()


def test_comments_and_order_stay() -> None:
    text = """\
# The shop.
kind: Deployment   # first
apiVersion: apps/v1
metadata: {name: shop}
spec:
    template:
        spec:
            volumes:
            # what it sells
            -   name: goods
                emptyDir: {}

            # its programs
            containers:
            -   image: "shop:1"  # the image
                name: 'shop'
                volumeMounts: [{name: goods, mountPath: /goods}]
                command: [shop, "--serve"] # run
                # the last one
            # after it
            initContainers:
            # before it
            -   name: migrate
---
a: {{ no YAML }
"""
    text = text.partition("---\n")[0]
    new = with_injection(text, "file", injection("exec"))
    lines = new.splitlines()
    changed = [line for line in text.splitlines() if line not in lines]
    assert changed == [
        "metadata: {name: shop}",
        "                volumeMounts: [{name: goods, mountPath: /goods}]",
        '                command: [shop, "--serve"] # run',
    ]
    assert [line for line in lines if line in text.splitlines()] == [
        line for line in text.splitlines() if line not in changed
    ]
    assert without_injection(new, "file") == text


def test_aliases_and_merge_keys_stay() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: shop, labels: &labels {app: shop}}
x: &base
  image: shop:1
spec:
  containers:
  - &one
    <<: *base
    name: one
    volumeMounts: &mounts
    - {name: goods, mountPath: /goods}
  - name: two
    volumeMounts: *mounts
  volumes: [{name: goods, emptyDir: {}}]
"""
    new = with_injection(text, "file", injection())
    assert yaml.safe_load(new) == injected(yaml.safe_load(text), injection())
    assert "volumeMounts: *mounts" in new
    assert "<<: *base" in new
    assert without_injection(new, "file") == text


def test_an_alias_that_shall_differ_from_its_anchor_is_written_out() -> None:
    text = """\
apiVersion: v1
kind: Pod
metadata: {name: shop}
spec:
  volumes: [{name: goods, emptyDir: {}}]
  containers:
  - name: one
    volumeMounts: &mounts [{name: goods, mountPath: /goods}]
  - name: two
    volumeMounts: *mounts
"""
    new = with_injection(text, "file", injection(containers=["one"]))
    assert yaml.safe_load(new) == injected(yaml.safe_load(text), injection(containers=["one"]))
    assert yaml.safe_load(without_injection(new, "file")) == yaml.safe_load(text)


def test_what_others_add_later_stays_where_it_is() -> None:
    new = injected(manifest("Deployment"), injection())
    pod = pod_of(new)
    pod["volumes"].append({"name": "goods", "emptyDir": {}})
    pod["initContainers"].insert(0, {"name": "network"})
    pod["containers"][0]["volumeMounts"].append({"name": "goods", "mountPath": "/goods"})
    assert injected(new, injection()) == new
    changed = injected(new, injection(role="other"))
    assert [item["name"] for item in pod_of(changed)["initContainers"]] == ["network", "kubevault"]
    left = pod_of(removed(new))
    assert (left["volumes"], left["initContainers"]) == ([{"name": "goods", "emptyDir": {}}], [{"name": "network"}])


def test_only_the_workloads_that_are_named() -> None:
    text = f"{STYLES['block'](manifest('Job'))}---\n{STYLES['block'](manifest('Pod'))}"
    job, pod = yaml.safe_load_all(with_injection(text, "file", injection(workloads=["Pod/shop"])))
    assert (job, pod) == (manifest("Job"), injected(manifest("Pod"), injection()))
    with pytest.raises(ConfigError, match="file: there is no Pod/other; there is Job/shop, Pod/shop"):
        with_injection(text, "file", injection(workloads=["Pod/other"]))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (
            "a: {{ .Values.a }}\n",
            "is not YAML (line 1); a file of manifests is needed; give what `helm template` renders",
        ),
        ("{{- if .Values.a }}\na: b\n{{- end }}\n", "give what `helm template` renders, not a template"),
        ("a: [\n", "is not YAML (line 2)"),
        ("", "holds no workload; allowed are Pod, Deployment"),
        ("kind: Deployment\napiVersion: example.org/v1\n", "holds no workload"),
        ("kind: Pod\napiVersion: v1\n", "Pod/: has no metadata or no pod's spec"),
        ("kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {}\n", "Pod/a: has no containers"),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: {}}\n",
            "Pod/a: has no containers",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [a]}\n",
            "Pod/a: containers should be a list of objects that have names",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}\nspec: {containers: [{name: kubevault}]}\n",
            "Pod/a: 'kubevault' in containers was not put there by kubevault inject",
        ),
        (
            "kind: Pod\napiVersion: v1\nmetadata: {name: a}\n"
            "spec: {containers: [{name: a, volumeMounts: [{name: b, mountPath: /kubevault}]}]}\n",
            "Pod/a: container 'a' has /kubevault mounted already",
        ),
    ],
)
def test_what_cannot_be_used_is_an_error(text: str, said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        with_injection(text, "file", injection())
    assert str(caught.value).startswith("file: ")
    assert said in str(caught.value)


def test_a_container_without_a_command_is_an_error_for_exec() -> None:
    with pytest.raises(ConfigError, match=r"container 'shop' has no command.*name its command with --command"):
        injected(manifest("Pod", {"containers": [{"name": "shop"}]}), injection("exec"))


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"with": "webhook"}, "with: found 'webhook'; allowed are init, sidecar, exec"),
        ({"with": None}, "with: is missing"),
        ({"secrets": []}, "secrets: is missing"),
        ({"secrets": None, "role": "", "image": ""}, "secrets, role, image: are missing"),
        ({"secrets": "a"}, "secrets: found str; allowed is a list of texts"),
        (
            {"secrets": ["a..b"]},
            "secrets: found 'a..b'; allowed is NAME or NAME/KEY, in the workload's own namespace: name",
        ),
        ({"secrets": ["a.-b"]}, "secrets: found 'a.-b'"),
        (
            {"secrets": ["a/.."]},
            "secrets: found 'a/..'; allowed is NAME or NAME/KEY, in the workload's own namespace: data",
        ),
        ({"config": "a..b"}, "config: ConfigMap 'a..b' is not allowed; allowed is an RFC 1123 subdomain"),
        ({"containers": ["A"]}, "container 'A' is not allowed; allowed is an RFC 1123 label"),
        ({"resources": []}, "resources: found list; allowed is a mapping"),
        ({"resources": {"limit": {}}}, "resources: found 'limit' with dict; allowed are requests and limits"),
        ({"resources": {"limits": {"cpu": "fast"}}}, "resources: found limits.cpu with 'fast'; allowed is a quantity"),
        ({"resources": {"limits": {"cpu": True}}}, "resources: found limits.cpu with True; allowed is a quantity"),
        (
            {"resources": {"limits": {"cpu": "1"}, "requests": {"cpu": "1500m"}}},
            "resources: requests.cpu 1500m is above limits.cpu 1",
        ),
        ({"image_pull_policy": "always"}, "image_pull_policy: found 'always'; allowed are Always, IfNotPresent, Never"),
        ({"platform": "windows"}, "platform: found 'windows'; allowed are kubernetes, openshift"),
        ({"secrets": ["ns/name/key"]}, "secrets: found 'ns/name/key'; allowed is NAME or NAME/KEY"),
        ({"vault_url": "http://vault"}, "vault_url: found 'http://vault'; allowed is https://HOST[:PORT]"),
        ({"image": "kubevault"}, "image: found 'kubevault'; allowed is a reference with a tag other than latest"),
        ({"image": "kubevault:latest"}, "image: found 'kubevault:latest'"),
        ({"image": "host:5000/kubevault"}, "image: found 'host:5000/kubevault'"),
        ({"role": 1}, "role: found int; allowed is text"),
        ({"user": 0}, "user: found 0; allowed is a number above 0"),
        ({"mount_path": "kubevault"}, "mount_path: found 'kubevault'"),
        ({"mount_path": str(TOKEN_FILE.parent)}, "mount_path: found '/var/run/secrets/tokens'"),
        ({"command": {"a": ["b"]}}, "command: is only for exec"),
        ({"environment": {"A": 1}}, "environment: found 'A' with int"),
        ({"colour": "blue"}, "colour: there is no such option; allowed are arguments,"),
        ({"workloads": ["shop"]}, "workloads: found 'shop'; allowed is KIND/NAME"),
    ],
)
def test_an_option_s_error_names_it(given: dict[str, Any], said: str) -> None:
    with pytest.raises(ConfigError) as caught:
        from_options({"with": "init", **OPTIONS, **given})
    assert str(caught.value).startswith(said)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, {"requests": {"cpu": "10m", "memory": "64Mi"}, "limits": {"memory": "128Mi"}}),
        (
            {"limits": {"cpu": 1, "ephemeral-storage": "64Mi"}, "requests": {"ephemeral-storage": "1Mi"}},
            {
                "requests": {"cpu": "10m", "memory": "64Mi", "ephemeral-storage": "1Mi"},
                "limits": {"memory": "128Mi", "cpu": "1", "ephemeral-storage": "64Mi"},
            },
        ),
        ({"limits": {"memory": "50M"}}, {"requests": {"cpu": "10m", "memory": "50M"}, "limits": {"memory": "50M"}}),
        ({"requests": {"memory": "1Gi"}}, {"requests": {"cpu": "10m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}}),
        ({"limits": {"memory": ""}, "requests": {"cpu": "", "memory": ""}}, {}),
    ],
)
def test_the_resources_of_our_container(given: dict[str, dict[str, Any]], expected: dict[str, dict[str, str]]) -> None:
    """A request is never above its limit, which Kubernetes refuses."""
    found = pod_of(injected(manifest("Deployment"), injection(resources=given)))
    assert found["initContainers"][0]["resources"] == expected


@pytest.mark.parametrize(
    ("text", "number"),
    [("1", "1"), ("500m", "0.5"), ("64Mi", str(64 * 2**20)), ("1E", "1e18"), ("1Ei", str(2**60)), ("1e3", "1000")],
)
def test_a_quantity_of_kubernetes(text: str, number: str) -> None:
    assert quantity(text) == Decimal(number)


def test_a_pull_policy_only_where_one_is_given() -> None:
    assert "imagePullPolicy" not in pod_of(injected(manifest("Job"), injection()))["initContainers"][0]
    found = pod_of(injected(manifest("Job"), injection(image_pull_policy="Always")))["initContainers"][0]
    assert found["imagePullPolicy"] == "Always"


@pytest.mark.parametrize("context", [{}, {"runAsUser": 5}])
def test_openshift_sets_users_and_groups_itself(context: dict[str, int]) -> None:
    spec = {"securityContext": context, "containers": [{"name": "shop", "securityContext": {"runAsUser": 6}}]}
    found = pod_of(injected(manifest("Deployment", copy.deepcopy(spec)), injection(platform="openshift", user=7)))
    assert found["securityContext"] == context
    assert not {"runAsUser", "runAsGroup"} & found["initContainers"][0]["securityContext"].keys()


def test_nothing_given_is_changed() -> None:
    content = manifest("CronJob")
    before = copy.deepcopy(content)
    new = injected(content, injection("exec"))
    assert content == before
    after = copy.deepcopy(new)
    removed(new)
    assert new == after


NAMES = st.sampled_from(["a", "b", "c"])
MOUNTS = st.lists(st.builds(lambda name: {"name": name, "mountPath": f"/{name}"}, NAMES), max_size=3)
CONTAINERS = st.builds(
    lambda name, command, mounts, user: {
        "name": name,
        "command": command,
        **({"volumeMounts": mounts} if mounts is not None else {}),
        **({"securityContext": {"runAsUser": user}} if user else {}),
    },
    NAMES,
    st.lists(st.sampled_from(["x", "a: b", "#", "- y", "null", "1", "{{ x }}", "a, b"]), min_size=1, max_size=3),
    st.none() | MOUNTS,
    st.sampled_from([None, 5, 6]),
)
BY_NAME: Any = {"min_size": 1, "max_size": 3, "unique_by": lambda item: item["name"]}
PODS = st.fixed_dictionaries(
    {"containers": st.lists(CONTAINERS, **BY_NAME)},
    optional={
        "volumes": st.lists(st.builds(lambda name: {"name": name, "emptyDir": {}}, NAMES), max_size=3),
        "securityContext": st.sampled_from([{}, {"fsGroup": 1}, {"runAsNonRoot": True}]),
        "restartPolicy": st.just("Never"),
    },
)


@settings(max_examples=150, deadline=None)
@given(PODS, st.sampled_from(KINDS), st.sampled_from(sorted(STYLES)), st.sampled_from(WAYS), st.sampled_from(WAYS))
def test_any_pod_in_any_style(pod: dict[str, Any], kind: str, style: str, first: str, second: str) -> None:
    content = manifest(kind, pod)
    text = STYLES[style](content)
    one = with_injection(text, "file", injection(first))
    two = with_injection(one, "file", injection(second, role="other"))
    assert injected(content, injection(first)) in objects(one)
    assert injected(content, injection(second, role="other")) in objects(two)
    assert content in objects(without_injection(two, "file"))


def objects(text: str) -> list[Any]:
    # By libyaml where it is there: of 150 pods, Python's own parser would take longer than what is tested.
    documents = [each for each in yaml.load_all(text, getattr(yaml, "CSafeLoader", yaml.SafeLoader)) if each]
    return documents[0]["items"] if documents[0].get("kind") == "List" else documents
