"""Asking again before what cannot be undone: a dialog where there is script, this page where there is none.

Both send `sure`, and what was to be typed as `typed`.
"""

from collections.abc import Mapping

from aiohttp import web

from imgpro.web.identity import Visitor
from imgpro.web.pages import Templates


def is_sure(form: Mapping[str, str], typed: str = "") -> bool:
    """Tell whether somebody was asked, and typed what they were asked to type."""
    return "sure" in form and (not typed or form.get("typed", "").strip().lower() == typed.lower())


def ask_again(
    templates: Templates,
    request: web.Request,
    visitor: Visitor | None,
    form: Mapping[str, str],
    *,
    question: str,
    words: str,
    button: str,
    back: str,
    typed: str = "",
) -> web.Response:
    """Return the page that asks; its form sends to the same address what this one sent. `back` is from the root."""
    wrong = "sure" in form
    return templates.page(
        request,
        "confirm.html",
        422 if wrong else 200,
        visitor=visitor,
        question=question,
        words=words,
        button=button,
        back=back,
        typed=typed,
        problem=f"That is not {typed}." if wrong else "",
        fields={name: value for name, value in form.items() if name not in ("csrf", "sure", "typed")},
    )
