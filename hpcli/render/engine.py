"""Templates to text. An undefined name is an error; templates hold no logic beyond loops."""

from collections.abc import Mapping
from functools import cache
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

TEMPLATES = Path(__file__).parent.parent / "templates"


@cache
def _environment(folder: Path) -> Environment:
    return Environment(
        loader=FileSystemLoader(folder),
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
        autoescape=False,
    )


def render(template: str, values: Mapping[str, object], folder: Path = TEMPLATES) -> str:
    """Fill one template, named relative to `folder`. Raises jinja2's UndefinedError for a missing value."""
    return _environment(folder).get_template(template).render(values)
