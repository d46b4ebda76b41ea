"""HTML in a few words: text goes in and is escaped, markup comes out.

`Html` marks what is markup already; every other string is text, so a class called <img onerror=...> stays a name and nobody has
to remember to escape it. A document made here refers to nothing outside itself, and its content security policy holds browsers
to that. It knows nothing of runs or networks.
"""

import base64
from collections.abc import Iterable, Sequence
from html import escape

POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"
VOID = ("img", "meta")


class Html(str):
    """Markup, which is not escaped again."""


def element(name: str, /, *children: str, **attributes: str) -> Html:
    """<name attribute="value">children</name>; a trailing underscore lets Python's own words be attributes (`class_`)."""
    given = "".join(f' {key.rstrip("_").replace("_", "-")}="{escape(value)}"' for key, value in attributes.items())
    return Html(f"<{name}{given}>" if name in VOID else f"<{name}{given}>{joined(children)}</{name}>")


def joined(children: Iterable[str]) -> Html:
    """Text and markup one after the other."""
    return Html("".join(child if isinstance(child, Html) else escape(child) for child in children))


def picture(data: bytes, kind: str, alt: str, class_: str = "") -> Html:
    """An image that lies in the page itself; `kind` is its media type, such as image/png."""
    source = f"data:{kind};base64,{base64.b64encode(data).decode()}"
    return element("img", src=source, alt=alt, **({"class": class_} if class_ else {}))


def definitions(pairs: Iterable[tuple[str, str]]) -> Html:
    """A list of terms and what they are."""
    return element("dl", *(element("div", element("dt", term), element("dd", value)) for term, value in pairs))


def table(head: Sequence[str], rows: Iterable[Sequence[str]], foot: Sequence[str] = ()) -> Html:
    """A table that scrolls by itself where it is too wide; its last row may be a sum."""
    body = element("tbody", *(element("tr", *(element("td", cell) for cell in row)) for row in rows))
    top = element("thead", element("tr", *(element("th", cell, scope="col") for cell in head)))
    end = element("tfoot", element("tr", *(element("td", cell) for cell in foot))) if foot else Html()
    return element("div", element("table", top, body, end), class_="wide")


def section(title: str, note: str, *content: str) -> Html:
    """A part of the page under a heading, with a sentence that says what is seen."""
    return element("section", element("h2", title), element("p", note, class_="note"), *content)


def card(image: Html, kind: str = "card") -> Html:
    """A figure on white, whatever the page's own colour is."""
    return element("figure", image, class_=kind)


def document(title: str, style: str, *body: str) -> bytes:
    """A whole page, UTF-8."""
    head = element(
        "head",
        element("meta", charset="utf-8"),
        element("meta", http_equiv="Content-Security-Policy", content=POLICY),
        element("meta", name="viewport", content="width=device-width, initial-scale=1"),
        element("meta", name="color-scheme", content="light dark"),
        element("title", title),
        element("style", Html(style)),
    )
    return f"<!doctype html>\n{element('html', head, element('body', *body), lang='en')}\n".encode()
