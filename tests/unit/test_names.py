"""What roles may write unquoted into units, commands of a shell, rules of nftables and names of files."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from secretmanager.names import UNQUOTED, unfit

HOSTILE = ["a; rm -rf /", 'a"b', "a'b", "a\nb", "a\n", "%h", "$x", "`id`", "a b;", "a\\", "ä", "\x00"]
FIT = {
    "key": ["aes256-key", "a.b_c", "1"],
    "path": ["/", "/etc/vault.d", "/srv/a@b/c+d_e"],
    "user": ["vault-snapshot", "_vault", "1000", "first.last"],
    "word": ["file_path", "current_key", "ODD", "seal-key"],
    "calendar": ["*-*-* 03:17:00", "Mon..Fri *-*~03/1 02:00:00.5 Etc/GMT+1", "daily"],
    "network": ["192.0.2.0/24", "192.0.2.1", "2001:db8::/32", "::1", "192.0.2.1-192.0.2.9"],
    "size": ["1G", "100", "5k"],
}


@pytest.mark.parametrize("kind", UNQUOTED)
def test_a_hostile_text_is_named_with_its_variable_and_what_is_allowed(kind: str) -> None:
    for text in HOSTILE:
        (line,) = unfit({"shop_dir": text}, kind)
        assert line.startswith(f"shop_dir: found {text!r}; allowed is {UNQUOTED[kind].text}")
        assert unfit({"shop_dirs": [*FIT[kind], f"/{text}"]}, kind) == [
            line.replace("dir", "dirs").replace(repr(text), repr(f"/{text}"))
        ]


@pytest.mark.parametrize("kind", UNQUOTED)
def test_what_is_fit_is_none_of_it_and_nothing_is_not_given(kind: str) -> None:
    assert unfit({"a": FIT[kind], "b": "", "c": [], "d": FIT[kind][0]}, kind) == []


def test_the_filter_s_documentation_has_all_kinds() -> None:
    path = Path(__file__).parents[2] / "plugins/filter/kubevault_unfit.yml"
    options = yaml.safe_load(path.read_text())["DOCUMENTATION"]["options"]
    assert options["kind"]["choices"] == sorted(UNQUOTED)
