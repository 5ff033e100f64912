# Copyright: the KUBEVAULT authors
# SPDX-License-Identifier: Apache-2.0
"""What the KUBEVAULT modules report, without any secret.

Ansible masks the values of options that are ``no_log`` wherever their text stands in a module's result. It collects
these values in ``AnsibleModule.no_log_values``. That attribute has no documented contract, but a module has no other
way to say what is a secret and what is not; tests/unit/test_module_results.py proves the functions of this file on each
ansible-core of the lock file. Ansible masks nothing in warnings (ansible-core 2.19 and 2.21).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import wraps
from typing import Any, NoReturn

from ansible.module_utils.basic import AnsibleModule

SHORT = 8
"""A text with fewer characters could occur in a message by coincidence."""

MASK = "********"

HIDDEN = "VALUE_SPECIFIED_IN_NO_LOG_PARAMETER"
"""What Ansible itself shows instead of a secret."""


class Concealed(dict[str, str]):
    """What stands for a dict of secrets among the parameters: its keys, each with `HIDDEN`.

    Attributes:
        secrets: the dict itself, which no repr, copy to JSON or journal of Ansible has.
    """

    def __init__(self, secrets: dict[str, Any]) -> None:
        super().__init__(dict.fromkeys(secrets, HIDDEN))
        self.secrets = secrets

    def __deepcopy__(self, memo: dict[int, Any]) -> Concealed:
        """Return another one of the same secrets: Ansible copies the parameters."""
        return Concealed(self.secrets)


def guarded(main: Callable[[], None]) -> Callable[[], None]:
    """Decorate the main function of a module: an exception that nothing translates is replaced by one without its text.

    Ansible returns the text, and with some settings the traceback; they may hold a secret. The end of a module is an
    exception too (SystemExit): none leaves with the frames below, whose variables hold secrets.
    """

    @wraps(main)
    def run() -> None:
        try:
            main()
        except BaseException as error:  # noqa: BLE001 - the boundary
            leaving = _leaving(error)
        else:
            return
        raise leaving  # here, so that the original is not its context

    return run


def _leaving(error: BaseException) -> BaseException:
    try:
        from secretmanager.errors import drop_frames, unexpected
    except ImportError:
        return error  # an error of Ansible itself: nothing of ours was imported
    if isinstance(error, Exception):
        return RuntimeError(unexpected(error))
    drop_frames(error)
    return error


def conceal(module: AnsibleModule, holder: dict[str, Any], option: str) -> dict[str, Any]:
    """Take a dict of secrets out of the parameters, so that the module's result shows nothing of it but the keys.

    Ansible masks a secret by its text, wherever that occurs. A secret such as "1" or "default" would be masked in
    paths and messages too, which garbles them and shows the reader what the secret is. So a secret is hidden by its
    place, and by its text only if it is too long to occur by coincidence.

    Args:
        module: the module.
        holder: the parameters, or those of a suboption.
        option: name of the option, which is ``no_log``.

    Returns:
        The secrets.
    """
    value = holder[option]
    secrets: dict[str, Any] = value.secrets if isinstance(value, Concealed) else value
    holder[option] = dict.fromkeys(secrets, HIDDEN)
    hidden = [module.params[name] for name, spec in module.argument_spec.items() if spec.get("no_log") is True]
    texts = set(_texts(secrets))
    short = {text for text in texts if len(text) < SHORT}
    # Not what stands in the place of secrets, which Ansible took for one.
    module.no_log_values -= {HIDDEN, *short} - {value for value in hidden if isinstance(value, str)}
    module.no_log_values |= texts - short
    return secrets


def finish(module: AnsibleModule, result: dict[str, Any], secrets: Iterable[object]) -> NoReturn:
    """Exit the module successfully.

    Ansible looks for the text of each secret in each text of the result, which takes seconds for a thousand of each.
    Here the whole result is one text to look in; Ansible then has to mask only the secrets that occur in it.

    Args:
        module: the module.
        result: what the module returns.
        secrets: what `conceal` returned.
    """
    result_text = "\0".join(_texts([result, module.params]))
    module.no_log_values -= {text for secret in secrets for text in _texts(secret) if text not in result_text}
    module.exit_json(**result)


def warn(module: AnsibleModule, text: object) -> None:
    """Warn, with every secret of the module masked: Ansible itself does not mask warnings.

    Args:
        module: the module.
        text: the warning; an exception counts as its message.
    """
    masked = str(text)
    # The longest first: a secret may be a part of another.
    for secret in sorted(filter(None, module.no_log_values), key=len, reverse=True):
        masked = masked.replace(secret, MASK)
    module.warn(masked)


def _texts(value: object) -> Iterator[str]:
    """Yield all texts within a value, as Ansible collects them to mask them."""
    if isinstance(value, dict | list):
        for item in value.values() if isinstance(value, dict) else value:
            yield from _texts(item)
    else:
        yield str(value)
