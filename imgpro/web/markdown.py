"""Markdown of our own documents: values made safe to stand in it, and HTML made of it.

HTML inside Markdown is not passed through, links stay within the site, and what a table or a long line needs on a phone
is put around it. Knows no templates and no settings.
"""

import re
from collections.abc import Sequence
from typing import Any, Final

import msgspec
from markdown_it import MarkdownIt
from markdown_it.token import Token

WIDE_COLUMNS: Final = 4
_SPECIAL: Final = re.compile(r"([\\`*_{}\[\]<>#|!~&])")
_NOT_IN_SLUG: Final = re.compile(r"[^a-z0-9_]+")


class Heading(msgspec.Struct, frozen=True):
    """A heading of a page: `level` 2 or 3, the fragment that leads to it, its text."""

    level: int
    fragment: str
    text: str


class Page(msgspec.Struct, frozen=True):
    """A document as HTML: its title, what comes after it, and the headings in it."""

    title: str
    html: str
    headings: tuple[Heading, ...]


def text(value: object) -> str:
    """Return a value as one line of plain text in Markdown: nothing in it starts a construct."""
    return _SPECIAL.sub(r"\\\1", " ".join(str(value).split()))


def to_page(source: str, base: str) -> Page:
    """Return a document, which begins with its title, as HTML for a page one level below the root of the site.

    Links that begin with `base` become relative, and those to a Markdown document lead to its page, so that the page
    works under any name and path.
    """
    parser = _parser()
    tokens = parser.parse(source)
    title, headings, kept = "", [], []
    fragments: set[str] = set()
    skipping = False
    for position, token in enumerate(tokens):
        if token.type == "heading_open":
            words = plain(tokens[position + 1])
            if token.tag == "h1":
                title, skipping = words, True
            else:
                fragment = _fragment(words, fragments)
                token.attrSet("id", fragment)
                if token.tag in ("h2", "h3"):
                    headings.append(Heading(int(token.tag[1]), fragment, words))
        for child in token.children or ():
            if child.type == "link_open":
                child.attrSet("href", _here(str(child.attrGet("href") or ""), base))
        if not skipping:
            kept.append(token)
        skipping = skipping and token.type != "heading_close"
    return Page(title, parser.renderer.render(kept, parser.options, {}), tuple(headings))


def plain(inline: Token) -> str:
    """Return the text of an inline token, without its marks."""
    return "".join(child.content for child in inline.children or () if child.type in ("text", "code_inline"))


def _parser() -> MarkdownIt:
    parser = MarkdownIt("commonmark", {"html": False}).enable("table")
    parser.add_render_rule("table_open", _table_open)
    parser.add_render_rule("table_close", _table_close)
    return parser


def _table_open(renderer: Any, tokens: Sequence[Token], position: int, options: Any, env: Any) -> str:
    """Open a table; one of many columns is wider than a phone and is scrolled by itself, by touch and by keyboard."""
    columns = 0
    for token in tokens[position:]:
        columns += token.type == "th_open"
        if token.type == "thead_close":
            break
    if columns >= WIDE_COLUMNS:
        return '<div class="scroll" role="region" aria-label="Table" tabindex="0">\n<table>\n'
    return "<div>\n<table>\n"


def _table_close(renderer: Any, tokens: Sequence[Token], position: int, options: Any, env: Any) -> str:
    return "</table>\n</div>\n"


def _fragment(words: str, taken: set[str]) -> str:
    """Return a fragment that is not taken yet, made of a heading's words."""
    stem = _NOT_IN_SLUG.sub("-", words.lower()).strip("-") or "section"
    fragment, number = stem, 2
    while fragment in taken:
        fragment, number = f"{stem}-{number}", number + 1
    taken.add(fragment)
    return fragment


def _here(link: str, base: str) -> str:
    if link == base:
        return "../"
    if not link.startswith(f"{base}/"):
        return link
    path, hash_, fragment = link.removeprefix(f"{base}/").partition("#")
    if path.startswith("api/"):
        path = path.removesuffix(".md")
    return f"../{path}{hash_}{fragment}"
