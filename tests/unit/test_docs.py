"""Links and paths in the documentation lead to existing files and headings."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGES = sorted(
    [*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "roles").glob("*/README.md")],
    key=lambda path: path.relative_to(ROOT),
)
FOLDERS = {path.name for path in ROOT.iterdir() if path.is_dir() and not path.name.startswith(".")} - {"collections"}

FENCED = re.compile(r"^```.*?^```", re.MULTILINE | re.DOTALL)
COMMAND = re.compile(r"^.*(?:ansible-playbook|python|pytest|source|cat) .*$", re.MULTILINE)

# Made by a build, or a part of each role.
MADE = {"dist", "meta"}


def ids(path: Path) -> str:
    return str(path.relative_to(ROOT))


def prose(page: Path) -> str:
    """Return a page without its fenced blocks, which are examples."""
    return re.sub(FENCED, "", page.read_text(encoding="utf-8"))


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub generates them, and explicit ones."""
    text = page.read_text(encoding="utf-8")
    headings = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    made = {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}
    return made | set(re.findall(r'<a id="([^"]+)">', text))


def links(page: Path) -> Iterator[tuple[str, str]]:
    for target in re.findall(r"\]\(([^)\s]+)\)", prose(page)):
        target = re.sub(r"\\(\W)", r"\1", target)  # escapes of Markdown
        if not re.match(r"[a-z]+:", target):
            path, _, anchor = target.partition("#")
            yield path, anchor


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_links_lead_somewhere(page: Path) -> None:
    for path, anchor in links(page):
        target = (page.parent / path).resolve() if path else page
        assert target.exists(), f"{path} is not there"
        if anchor:
            assert anchor in anchors(target), f"{target.name} has no heading #{anchor}"


@pytest.mark.parametrize("page", [page for page in PAGES if page.name != "CHANGELOG.md"], ids=ids)
def test_lines_are_short_enough_to_read_side_by_side(page: Path) -> None:
    """Tables aside, and what cannot be broken: a link, or a command in a code span."""
    lines = prose(page).splitlines()
    long = [line for line in lines if len(line) > 120 and not line.lstrip().startswith("|")]
    assert [line for line in long if len(re.sub(r"`[^`]*`|\]\([^)]*\)", "", line)) > 20] == []


def named(page: str) -> Iterator[str]:
    """Yield the paths that a page names in code spans, and the playbooks and programs that its commands run."""
    spans = re.findall(r"`([^`\n]+)`", re.sub(FENCED, "", page))
    commands = [line for block in re.findall(FENCED, page) for line in re.findall(COMMAND, block)]
    for word in " ".join([*spans, *commands]).split():
        first = word.partition("/")[0]
        if "/" in word and first in FOLDERS - MADE and not re.search(r"[*<>{}$]|\.\.\.|[A-Z]{3,}", word):
            yield word.split(":")[0].rstrip("/,;")


@pytest.mark.parametrize("page", PAGES, ids=ids)
def test_paths_are_there(page: Path) -> None:
    missing = [
        path
        for path in named(page.read_text(encoding="utf-8"))
        if not (ROOT / path).exists() and not (page.parent / path).exists()
    ]
    assert not missing


def test_what_is_missing_is_found(tmp_path: Path) -> None:
    text = "see `playbooks/nosuch.yml`, `roles/KEY/x` and `src/secretmanager`, or run `python tools/nosuch.py a`"
    fenced = "\n```bash\nansible-playbook playbooks/none.yml -e a=b\n```\n```yaml\nfile: roles/not/a-command\n```\n"
    assert list(named(text + fenced)) == [
        "playbooks/nosuch.yml",
        "src/secretmanager",
        "tools/nosuch.py",
        "playbooks/none.yml",
    ]
    page = tmp_path / "page.md"
    page.write_text("# A heading, here\n[one](nosuch.md) [two](#a-heading-here) [three](https\\://example.org)\n")
    assert list(links(page)) == [("nosuch.md", ""), ("", "a-heading-here")]
    assert anchors(page) == {"a-heading-here"}


def test_every_make_target_that_a_page_names_is_there() -> None:
    targets = set(re.findall(r"^([a-z-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE))
    for page in PAGES:
        for target in re.findall(r"`make ([a-z-]+)", page.read_text(encoding="utf-8")):
            assert target in targets, f"{page.name}: make {target}"


def test_the_changelog_s_fragments_have_no_markup_of_ansible_s_documentation() -> None:
    """They are reStructuredText: antsibull-changelog would print `O(name)` as it stands."""
    fragments = sorted((ROOT / "changelogs/fragments").glob("*.yml"))
    assert [path.name for path in fragments if re.search(r"\b[A-Z]\([^)]*\)", path.read_text())] == []
