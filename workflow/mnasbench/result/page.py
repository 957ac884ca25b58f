"""Pages that stand alone: one HTML file with its style and script in it, that may ask nothing of the network."""

import base64
import hashlib
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

_TEMPLATES = Path(__file__).parent / "templates"
UNKNOWN = "\N{EN DASH}"


def render(template: str, values: Mapping[str, Any]) -> str:
    """The page that ``template`` makes of ``values``; whatever is not ``Markup`` is escaped.

    A content security policy lets the page load nothing and run only the script that is in it.
    """
    environment = Environment(
        loader=FileSystemLoader(_TEMPLATES),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters |= {"number": number, "p_value": p_value, "signed": signed}
    style, script = ((_TEMPLATES / name).read_text(encoding="utf-8") for name in ("page.css", "page.js"))
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = environment.get_template(template)
    # Both files are ours; a page's own data never go into either.
    return page.render(**values, style=Markup(style), script=Markup(script), script_digest=digest)  # noqa: S704


def number(value: float | None, digits: int = 1, factor: float = 1.0) -> str:
    """``value * factor`` with ``digits`` after the point and commas between thousands; a dash where it is unknown."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value * factor:,.{digits}f}"


def signed(value: float | None, digits: int = 2) -> str:
    """As ``number``, with its sign."""
    return UNKNOWN if value is None or not math.isfinite(value) else f"{value:+,.{digits}f}"


def p_value(value: float | None) -> str:
    """A probability to two significant digits, never as a bare zero."""
    if value is None:
        return UNKNOWN
    return "< 0.0001" if value < 0.0001 else f"{value:.2g}"
