"""The tree of exceptions: its docstring, the classes and the exports agree."""

from __future__ import annotations

import asyncio
import copy
import importlib
import pickle
import pkgutil
import re
from collections.abc import Callable, Iterator

import pytest
from support.frames import chain, frames

import secretmanager
from secretmanager import errors
from secretmanager.errors import unexpected


def classes() -> set[type[secretmanager.SecretManagerError]]:
    """Return all exceptions of the package, wherever they are defined."""
    for module in pkgutil.walk_packages(secretmanager.__path__, "secretmanager."):
        importlib.import_module(module.name)
    found = {errors.SecretManagerError}
    pending = [errors.SecretManagerError]
    while pending:
        subclasses = pending.pop().__subclasses__()
        pending += subclasses
        found |= set(subclasses)
    return {kind for kind in found if kind.__module__.startswith("secretmanager")}


def parents_in_the_docstring() -> dict[str, str | None]:
    """Return the parent of each exception, as the tree in the docstring draws it."""
    path: list[str] = []
    parents: dict[str, str | None] = {}
    for line in (errors.__doc__ or "").splitlines():
        match = re.fullmatch(r"    ([│├└─ ]*)([A-Z]\w+)(?: {2,}.*)?", line)
        if match:
            depth = len(match[1]) // 4
            path = [*path[:depth], match[2]]
            parents[match[2]] = path[depth - 1] if depth else None
    return parents


def test_the_docstring_is_the_tree() -> None:
    drawn = parents_in_the_docstring()
    real = {
        kind.__name__: kind.__bases__[0].__name__ if kind.__bases__[0] is not Exception else None for kind in classes()
    }
    assert drawn == real


def test_every_exception_is_public() -> None:
    names = {kind.__name__ for kind in classes()}
    assert set(errors.__all__) == names
    assert names <= set(secretmanager.__all__)
    assert all(getattr(secretmanager, name) is getattr(errors, name) for name in names)


TLS = errors.TLSError("expired", reason="expired", place="https://vault.example.org", remedy="renew it")
MADE: dict[type[errors.SecretManagerError], errors.SecretManagerError] = {
    type(error): error
    for error in (
        TLS,
        errors.ProgramError("not found", exit_status=127, place="/bin/none"),
        errors.SecretFileError("others read it", reason="mode", place="/etc/token"),
        errors.WrongTransitKey(asked="a", found="b", place="default/shop[a]"),
        errors.SealingFailed([TLS]),
        errors.RestartFailed([TLS]),
        errors.NotRetired("shop", {"default/shop": "it is immutable"}),
        errors.VaultUnavailable("no connection", place="https://vault.example.org"),
        errors.PermissionDenied("denied", path="transit/encrypt/shop", errors=["1 error occurred"]),
        errors.LeaseHeld("another rotation runs", holder="host-1", place="default/shop"),
        errors.NoticeError("refused", reason="refused", place="redis://localhost"),
    )
}
"""An example of those that take other arguments than the message, the place and the remedy."""


@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_each_exception_goes_through_pickle_and_copy_as_itself(
    again: Callable[[errors.SecretManagerError], errors.SecretManagerError],
) -> None:
    for kind in classes():
        error = MADE.get(kind) or kind("why", place="default/shop", remedy="mend it")
        other = again(error)
        assert type(other) is kind
        assert (str(other), other.args) == (str(error), error.args)
        assert {name: str(value) for name, value in vars(other).items()} == {
            name: str(value) for name, value in vars(error).items()
        }


def test_every_public_name_is_there() -> None:
    assert len(secretmanager.__all__) == len(set(secretmanager.__all__))
    assert set(secretmanager.__all__) <= set(dir(secretmanager))
    assert all(getattr(secretmanager, name) for name in dir(secretmanager))


def test_every_wing_says_what_is_in_it() -> None:
    for wing in pkgutil.iter_modules(secretmanager.__path__, "secretmanager."):
        if wing.ispkg:
            package = importlib.import_module(wing.name)
            modules = {module.name for module in pkgutil.iter_modules(package.__path__)}
            names = set(package.__all__)
            assert modules <= names, wing.name
            assert all(hasattr(package, name) or name in modules for name in names), wing.name
            assert package.__doc__


def test_an_unexpected_exception_is_told_by_type_and_place_alone() -> None:
    try:
        {}["follow-the-white-rabbit"]
    except KeyError as error:
        text = unexpected(error)
    assert re.match(r"unexpected KeyError in test_errors\.py, line \d+; this is a bug of kubevault", text)
    assert "rabbit" not in text
    assert unexpected(ValueError("rabbit")).startswith("unexpected ValueError; this is a bug")


@errors.guarded
class Guarded:
    """Methods that fail with a secret among their variables."""

    def fails(self, secret: str) -> None:
        copied = secret
        raise errors.ConfigError(f"of {len(copied)} characters") from ValueError(7)

    def has_a_bug(self, secret: str) -> None:
        {}[len(secret)]

    def is_interrupted(self, secret: str) -> None:
        raise KeyboardInterrupt

    def several(self, secret: str) -> Iterator[int]:
        yield len(secret)
        with pytest.raises(errors.ConfigError) as caught:
            fail(secret)
        raise errors.SealingFailed([caught.value])

    async def later(self, secret: str) -> None:
        await asyncio.sleep(0)
        raise errors.ConfigError(f"of {len(secret)} characters")

    @classmethod
    def of_the_class(cls, secret: str) -> None:
        raise errors.ConfigError(f"of {len(secret)} characters")

    @staticmethod
    def static(secret: str) -> None:
        raise errors.ConfigError(f"of {len(secret)} characters")


def fail(secret: str) -> None:
    raise errors.ConfigError(f"of {len(secret)} characters")


@pytest.mark.parametrize(
    ("call", "kind"),
    [
        (lambda one: one.fails("PLAIN-x"), errors.ConfigError),
        (lambda one: one.has_a_bug("PLAIN-x"), errors.SecretManagerError),
        (lambda one: one.is_interrupted("PLAIN-x"), KeyboardInterrupt),
        (lambda one: list(one.several("PLAIN-x")), errors.SealingFailed),
        (lambda one: asyncio.run(one.later("PLAIN-x")), errors.ConfigError),
        (lambda one: one.of_the_class("PLAIN-x"), errors.ConfigError),
        (lambda one: one.static("PLAIN-x"), errors.ConfigError),
        (lambda one: one.fails("PLAIN-x", "PLAIN-y"), errors.ConfigError),
        (lambda one: one.nosuch("PLAIN-x"), AttributeError),
    ],
)
def test_no_frame_of_a_guarded_class_leaves(call: Callable[[Guarded], object], kind: type[BaseException]) -> None:
    with pytest.raises(kind) as caught:
        call(Guarded())
    names = [frame.f_code.co_name for error in chain(caught.value) for frame in frames(error)]
    ours = {"call", "called", "__next__", "fails", "has_a_bug", "is_interrupted", "several", "later", "fail"}
    # Python's own frames of a coroutine's run, and the one that raises another error instead.
    assert ours.intersection(names) <= {"call"}
    kept = [frame for error in chain(caught.value) for frame in frames(error) if frame.f_code.co_name == "call"]
    assert all("PLAIN-" not in repr(frame.f_locals) for frame in kept)


def test_a_bug_is_told_by_its_place_through_several_boundaries() -> None:
    @errors.frameless
    class Inner:
        def fails(self) -> None:
            raise ZeroDivisionError

    @errors.guarded
    class Outer:
        def fails(self) -> None:
            Inner().fails()

    with pytest.raises(errors.SecretManagerError, match=r"fails: unexpected ZeroDivisionError in test_errors.py, line"):
        Outer().fails()


def test_the_cause_stays_without_its_frames() -> None:
    with pytest.raises(errors.ConfigError) as caught:
        Guarded().fails("PLAIN-x")
    assert isinstance(caught.value.__cause__, ValueError)
    assert caught.value.__cause__.args == (7,)
