"""A report's page as a reader and a browser would find it."""

from html.parser import HTMLParser

_VOID = {"meta", "link", "br", "img", "input", "hr"}


class Page(HTMLParser):
    """Collects tags, ids and text, and checks that tags are balanced."""

    def __init__(self, html):
        super().__init__()
        self.tags, self.ids, self.text, self._open = [], [], [], []
        self.code = ""
        self.feed(html)
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        attributes = dict(attrs)
        self.tags.append((tag, attributes))
        if "id" in attributes:
            self.ids.append(attributes["id"])
        if tag not in _VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag

    def handle_data(self, data):
        if "pre" in self._open:
            self.code = data
        if not self._open or self._open[-1] not in {"script", "style"}:
            self.text.append(data)

    @property
    def shown(self):
        return " ".join(" ".join(self.text).split())

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]
