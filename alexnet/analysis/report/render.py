"""Render a report page from a Jinja template.

Autoescaping is on for every template: a class called <img onerror=...> stays a name. A page
refers to nothing outside itself, and its content security policy holds browsers to that.
Undefined names are errors. The same values always give the same bytes.
"""

from functools import cache
from importlib.resources import files
from typing import TYPE_CHECKING

from alexnet import __version__

if TYPE_CHECKING:
    from jinja2 import Environment

PACKAGE = "alexnet.analysis.report"


def render_page(template: str, page: object) -> bytes:
    """Fill a template with the values of `page`; return the whole page as UTF-8."""
    from markupsafe import Markup

    css = (files(PACKAGE) / "report.css").read_text("utf-8")
    html = (
        template_environment()
        .get_template(template)
        .render(
            page=page,
            css=Markup(css),  # our own file, the only text that is not escaped
            version=__version__,
        )
    )
    return html.encode()


@cache
def template_environment() -> "Environment":
    """Return the environment of all report templates, with autoescaping."""
    from jinja2 import Environment, PackageLoader, StrictUndefined

    return Environment(
        loader=PackageLoader(PACKAGE, "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
