"""The pages hold together: links lead somewhere, and every hpcli command in them is one, with options it has."""

import re
import shlex
from collections.abc import Iterator, Sequence
from pathlib import Path

import click
import pytest

from hpcli.cli.jobs import SubmitCommand
from hpcli.cli.main import root

ROOT = Path(__file__).parents[2]
PAGES = sorted([*ROOT.glob("*.md"), *ROOT.glob("docs/*.md"), *ROOT.glob("docker-slurm/*.md")])
FENCE = re.compile(r"^```[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)
INDENTED = re.compile(r"(?:^ {4}[^\n]*\n)+", re.MULTILINE)
LINK = re.compile(r"\]\(([^)#\s]*)(#[^)\s]*)?\)|<img src=\"([^\"]+)\"")
SHELL_OPENS = {"|", "&&", "||", ";", ">", "2>"}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    assert [link for link in links(page) if not leads(page, *link)] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_command_is_one(page: Path) -> None:
    wrong = [f"{' '.join(words)}: {why}" for words in commands(page.read_text()) if (why := fault(words))]
    assert wrong == []


def test_every_page_is_in_the_index() -> None:
    index = (ROOT / "docs" / "README.md").read_text()
    assert [
        page.name for page in ROOT.glob("docs/*.md") if page.name != "README.md" and f"({page.name})" not in index
    ] == []


def test_what_is_wrong_is_seen() -> None:
    page = (
        "```console\n$ hpcli cluster upp\n$ X=1 hpcli nodes --nonsense | jq\n```\n\n    hpcli queue --json   # fine\n"
    )
    assert [bool(fault(words)) for words in commands(page)] == [True, True, False]


def links(page: Path) -> Iterator[tuple[str, str]]:
    text = FENCE.sub("", page.read_text())
    for target, anchor, image in LINK.findall(text):
        if not re.match(r"[a-z]+:", target or image):
            yield target or image, anchor


def leads(page: Path, target: str, anchor: str) -> bool:
    path = (page.parent / target) if target else page
    if not path.exists():
        return False
    return not anchor or anchor[1:] in {slug(line) for line in path.read_text().splitlines() if line.startswith("#")}


def slug(heading: str) -> str:
    """The anchor of a heading, as it is made where the pages are shown."""
    return re.sub(r"[^\w\- ]", "", heading.lstrip("#").strip().lower()).replace(" ", "-")


def commands(text: str) -> Iterator[list[str]]:
    """The words after `hpcli` of every command in the page's code blocks."""
    blocks = [*FENCE.findall(text), *INDENTED.findall(FENCE.sub("", text))]
    for line in "".join(blocks).splitlines():
        found = re.match(r"\s*(?:\$ )?(?:[A-Z_]+=\S+ )*hpcli (.*)", line)
        if found:
            yield shell_words(found.group(1))


def shell_words(line: str) -> list[str]:
    words = shlex.split(line, comments=True)
    end = next((index for index, word in enumerate(words) if word in SHELL_OPENS), len(words))
    return words[:end]


def fault(words: Sequence[str]) -> str:
    """Why this is no command of ours; "" when it is one. What an option's value may be is not looked at."""
    command: click.Command = root
    known = names_of(root)
    for word in words:
        inner = command.get_command(click.Context(command), word) if isinstance(command, click.Group) else None
        if inner is not None:
            command, known = inner, known | names_of(inner)
        elif isinstance(command, SubmitCommand):
            # The rest is sbatch's.
            return ""
        elif word.startswith("--") and word.split("=")[0] not in known:
            return f"{word} is no option"
        elif command is not root and isinstance(command, click.Group):
            return f"{word} is no command"
    return "" if command is not root or words[:1] in (["--help"], ["--version"]) else "there is no command in it"


def names_of(command: click.Command) -> frozenset[str]:
    return frozenset(name for one in command.params for name in (*one.opts, *one.secondary_opts)) | {"-h", "--help"}
