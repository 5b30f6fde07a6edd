"""A commented cluster.yaml to start from, one per provider."""

import re
from pathlib import Path

from pydantic import TypeAdapter, ValidationError

from hpcli.errors import UsageFault
from hpcli.spec.problems import show
from hpcli.spec.values import ClusterName

TEMPLATES = Path(__file__).parent.parent / "templates" / "clusters"
PROVIDERS = ("local", "docker", "hosts")

_NAME = re.compile(r"^name: .*$", re.MULTILINE)


def starting_text(provider: str, name: str | None = None) -> str:
    """Give the text for one of `PROVIDERS`, with another cluster name if given. Raises `UsageFault` for a bad name."""
    text = (TEMPLATES / f"{provider}.yaml").read_text()
    if name is None:
        return text
    try:
        TypeAdapter(ClusterName).validate_python(name)
    except ValidationError as error:
        expected = error.errors(include_url=False)[0]["ctx"]["expected"]
        raise UsageFault("--name", f"found {show(name)}, expected {expected}") from None
    return _NAME.sub(f"name: {name}", text, count=1)


def name_in(text: str) -> str:
    """Give the cluster name that such a text has."""
    found = _NAME.search(text)
    return found[0].removeprefix("name: ") if found else ""
