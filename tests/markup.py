"""A page as tests look at it: its tags with their attributes and its visible text."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """Parses a page once. `tags` holds (name, attributes) in order; `code` the text of each `<code>`."""

    def __init__(self, body: bytes) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self.code: list[str] = []
        self._inside: list[str] = []
        self.feed(body.decode())
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, {name: value or "" for name, value in attrs}))
        if tag == "code":
            self._inside.append(tag)
            self.code.append("")

    def handle_endtag(self, tag: str) -> None:
        if tag == "code":
            self._inside.pop()

    def handle_data(self, data: str) -> None:
        self.text += data
        if self._inside:
            self.code[-1] += data

    def all(self, tag: str) -> list[dict[str, str]]:
        """Return the attributes of every such tag."""
        return [attrs for name, attrs in self.tags if name == tag]

    def meta(self) -> dict[str, str]:
        """Return the content of `<meta>` by its property or name; a name given twice is an error."""
        found: dict[str, str] = {}
        for attrs in self.all("meta"):
            name = attrs.get("property") or attrs.get("name")
            if name and "media" not in attrs:
                assert name not in found, f"{name} is there twice"
                found[name] = attrs["content"]
        return found

    def fields(self) -> list[str]:
        """Return the texts offered for copying: link, picture, Markdown, HTML, BBCode."""
        return [attrs["value"] for attrs in self.all("input") if "readonly" in attrs and "value" in attrs]

    def curl_lines(self) -> list[str]:
        """Return the commands that a person would paste."""
        return [code for code in self.code if code.startswith("curl ")]
