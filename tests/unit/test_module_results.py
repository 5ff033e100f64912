"""What the modules report: secrets by their place, never in a warning, with each ansible-core of the lock file."""

from __future__ import annotations

import json
import sys
import traceback
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from ansible.module_utils.basic import AnsibleModule
from ansible.module_utils.common.parameters import PASS_VARS
from ansible.module_utils.testing import patch_module_args
from support.frames import chain, frames

from secretmanager.errors import SecretFileError

sys.path.append(str(Path(__file__).parents[2] / "plugins" / "module_utils"))

import kubevault_results as results

LONG = "follow-the-white-rabbit"
MASKED = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"

# From 2.21 on, ansible-core returns the arguments of a module, the "invocation", only if the controller asks for it.
WITH_INVOCATION = {"_ansible_inject_invocation": True} if "inject_invocation" in PASS_VARS else {}

Run = Callable[..., dict[str, Any]]
Make = Callable[..., AnsibleModule]

SPEC = {
    "data": {"type": "dict", "no_log": True},
    "token": {"type": "str", "no_log": True},
    "path": {"type": "str"},
}


@pytest.fixture
def module_of() -> Iterator[Make]:
    """Makes a module with parameters, as Ansible does; its result has the invocation."""
    with ExitStack() as stack:

        def make(**parameters: object) -> AnsibleModule:
            stack.enter_context(patch_module_args({**parameters, **WITH_INVOCATION}))
            return AnsibleModule(argument_spec=SPEC)

        yield make


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Run:
    """Runs the end of a module; returns what Ansible would get."""

    def end(call: Callable[[], None]) -> dict[str, Any]:
        with pytest.raises(SystemExit):
            call()
        answer: dict[str, Any] = json.loads(capsys.readouterr().out)
        return answer

    return end


def test_a_concealed_secret_is_hidden_by_its_place(module_of: Make, run: Run) -> None:
    module = module_of(data={"a": LONG, "b": "1"}, path="/srv/1")
    secrets = results.conceal(module, module.params, "data")
    assert secrets == {"a": LONG, "b": "1"}
    answer = run(lambda: results.finish(module, {"changed": False, "path": "/srv/1"}, [secrets]))
    assert answer["path"] == "/srv/1"  # the secret "1" does not garble it
    assert answer["invocation"]["module_args"]["data"] == {"a": MASKED, "b": MASKED}


def test_a_long_secret_in_a_result_is_masked_all_the_same(module_of: Make, run: Run) -> None:
    module = module_of(data={"a": LONG})
    secrets = results.conceal(module, module.params, "data")
    answer = run(lambda: results.finish(module, {"msg": f"it is {LONG}"}, [secrets]))
    assert LONG not in json.dumps(answer)


def test_a_short_secret_of_another_option_stays_hidden(module_of: Make, run: Run) -> None:
    module = module_of(data={"a": "sesame"}, token="sesame")
    secrets = results.conceal(module, module.params, "data")
    answer = run(lambda: results.finish(module, {"msg": "open sesame"}, [secrets]))
    assert "sesame" not in json.dumps(answer)


def test_only_secrets_that_occur_are_left_to_ansible(module_of: Make, run: Run) -> None:
    """That is what `finish` is for: Ansible looks for each in every text."""
    values = {f"key-{n}": f"{LONG}-{n}" for n in range(100)}
    module = module_of(data=values)
    secrets = results.conceal(module, module.params, "data")
    run(lambda: results.finish(module, {"msg": values["key-7"]}, [secrets]))
    assert module.no_log_values & set(values.values()) == {values["key-7"]}


def test_ansible_itself_masks_no_warning(module_of: Make, run: Run) -> None:
    """The reason for `warn`. If this fails, Ansible has learned it, and `warn` may go."""
    module = module_of(token=LONG)
    module.warn(f"it is {LONG}")
    assert LONG in last_warning(run(lambda: module.exit_json()))


def test_a_warning_is_masked(module_of: Make, run: Run) -> None:
    module = module_of(token=LONG, data={"a": f"{LONG}-and-more"})
    results.warn(module, ValueError(f"{LONG}-and-more; {LONG}"))
    shown = last_warning(run(lambda: module.exit_json()))
    assert f"{results.MASK}; {results.MASK}" in shown
    assert LONG not in shown
    assert "and-more" not in shown


def last_warning(answer: dict[str, Any]) -> str:
    """Return the newest: Ansible keeps the warnings of a process together."""
    return json.dumps(answer["warnings"][-1])


def test_no_module_warns_in_another_way() -> None:
    plugins = Path(__file__).parents[2] / "plugins"
    callers = [path.name for path in plugins.rglob("*.py") if "module.warn(" in path.read_text()]
    assert callers == ["kubevault_results.py"]


def test_an_unexpected_exception_fails_a_module_without_its_text() -> None:
    @results.guarded
    def main() -> None:
        raise KeyError("-".join(["follow", "the", "white", "rabbit"]))

    with pytest.raises(RuntimeError, match=r"^unexpected KeyError in test_module_results\.py, line \d+") as caught:
        main()
    assert "rabbit" not in "".join(traceback.format_exception(caught.value))
    assert list(chain(caught.value)) == [caught.value]


def test_a_module_that_fails_leaves_no_frame(module_of: Make) -> None:
    """Ansible ends a module by SystemExit, whose context is what it failed for."""

    def read(secret: str) -> None:
        raise SecretFileError(f"of {len(secret)} characters", reason="missing", place="x")

    @results.guarded
    def main() -> None:
        try:
            read(LONG)
        except SecretFileError as error:
            module_of(path="x").fail_json(msg=str(error))

    with pytest.raises(SystemExit) as caught:
        main()
    assert any(isinstance(error, SecretFileError) for error in chain(caught.value))
    names = {frame.f_code.co_name for error in chain(caught.value) for frame in frames(error)}
    assert names == {"test_a_module_that_fails_leaves_no_frame", "run"}


def test_a_guarded_module_ends_as_ansible_ends_it(module_of: Make, run: Run) -> None:
    main = results.guarded(lambda: module_of(path="x").exit_json(changed=True))
    assert run(main)["changed"] is True
