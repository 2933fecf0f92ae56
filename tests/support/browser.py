"""A test client that reads pages as strictly as a browser is lenient: status, valid HTML, no id twice, real forms."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from typing import Any
from xml.etree.ElementTree import Element

import html5lib
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

HTML = "{http://www.w3.org/1999/xhtml}"
SVG = "{http://www.w3.org/2000/svg}"


class Page:
    """An answer's HTML. Raise AssertionError if it is not valid or an id is there twice."""

    def __init__(self, response: TestResponse, fragment: bool = False) -> None:
        self.response = response
        self.html = response.get_data(as_text=True)
        parser = html5lib.HTMLParser(strict=False)
        self.root: Element = (parser.parseFragment if fragment else parser.parse)(self.html)
        assert not parser.errors, parser.errors
        twice = [name for name, number in Counter(self._all("id")).items() if number > 1]
        assert not twice, f"ids that are there twice: {twice}"
        for attribute in ("aria-describedby", "aria-labelledby", "for"):
            dangling = {name for value in self._all(attribute) for name in value.split()} - set(self._all("id"))
            assert not dangling, f"{attribute} points at nothing: {dangling}"
        self._check_policy()
        self._check_names()
        if not fragment:
            assert len(self.select("h1")) == 1, "a page has one <h1>"

    def _check_policy(self) -> None:
        """Nothing that the Content-Security-Policy would stop, nothing from elsewhere."""
        for element in self.root.iter():
            inline = [name for name in element.attrib if name == "style" or name.startswith("on")]
            assert not inline, f"inline {inline} on {element.tag}"
        assert not self.select("style"), "inline <style>"
        loaded = [element.get("src", "") for element in self.select("script") + self.select("img")]
        loaded += [element.get("href", "") for element in self.select("link")]
        assert all(source.startswith("/") and not source.startswith("//") for source in loaded), loaded

    def _check_names(self) -> None:
        """Every field has a label, every button and link a name."""
        labelled = set(self._all("for"))
        for field in self.select("input") + self.select("select") + self.select("textarea"):
            assert field.get("type") == "hidden" or field.get("id") in labelled, f"no label: {field.attrib}"
        for control in self.select("button") + self.select("a") + self.select("summary"):
            assert _text(control) or control.get("aria-label"), f"no name: {control.attrib}"

    def _all(self, attribute: str) -> list[str]:
        return [element.get(attribute, "") for element in self.root.iter() if element.get(attribute)]

    @property
    def text(self) -> str:
        """The words of the page, white space collapsed."""
        return _text(self.root)

    def select(self, tag: str, **attributes: str) -> list[Element]:
        """Return the elements with a tag and attribute values (`_` for `-`)."""
        wanted = {name.strip("_").replace("_", "-"): value for name, value in attributes.items()}
        found = self.root.iter(HTML + tag)
        return [element for element in found if all(element.get(name) == value for name, value in wanted.items())]

    def by_id(self, name: str) -> str:
        """Return the words of the element with an id. Raise AssertionError if there is none."""
        elements = [element for element in self.root.iter() if element.get("id") == name]
        assert elements, f"there is no #{name}"
        return _text(elements[0])

    def form(self, action: str) -> dict[str, str]:
        """Return the values that the POST form with that action would send. Raise AssertionError if there is none."""
        forms = self.select("form", action=action, method="post")
        assert forms, f"there is no form to {action}"
        kinds = (HTML + "input", HTML + "textarea", HTML + "select")
        fields = [field for field in forms[0].iter() if field.tag in kinds and field.get("name") and _is_sent(field)]
        return {field.get("name", ""): _value(field) for field in fields}


def _is_sent(field: Element) -> bool:
    """Return whether a browser sends a field as the page has it."""
    kind = field.get("type")
    return kind != "file" and (kind != "checkbox" or "checked" in field.attrib)


def _value(field: Element) -> str:
    """Return what a browser sends for a field as the page has it."""
    if field.tag == HTML + "select":
        options = list(field.iter(HTML + "option"))
        chosen = [option for option in options if "selected" in option.attrib] or options[:1]
        return chosen[0].get("value", _text(chosen[0])) if chosen else ""
    return field.get("value", "") if field.tag == HTML + "input" else _text(field)


def _text(element: Element) -> str:
    return " ".join("".join(element.itertext()).split())


def drawn(page: Page, name: str) -> list[Element]:
    """Return the SVG pictures of that class on a page."""
    return [element for element in page.root.iter(SVG + "svg") if element.get("class") == name]


@dataclass
class Browser:
    """A visitor. Follows no redirect unless told to."""

    client: FlaskClient

    def open(self, method: str, path: str, headers: dict[str, str] | None = None, **options: Any) -> TestResponse:
        """Send a request and return the response. `client` gives each its own context, as a real server does."""
        return self.client.open(path, method=method, headers={"Accept": "text/html"} | (headers or {}), **options)

    def get(self, path: str, status: int = 200, fragment: bool = False) -> Page:
        """Return the page of a path. Raise AssertionError for another status or a broken page."""
        response = self.open("GET", path)
        assert response.status_code == status, (response.status_code, response.location, response.text[:500])
        return Page(response, fragment)

    def redirected(self, path: str) -> str:
        """Return the target of a path's redirect."""
        response = self.open("GET", path)
        assert response.status_code == 302, response.status_code
        return response.location or ""

    def submit(self, page: Page | str, action: str, status: int = 302, **values: str | None) -> TestResponse:
        """Fill in the form with an action on a page (or its path; None: untick) and send it. Return the response."""
        page = self.get(page) if isinstance(page, str) else page
        filled = page.form(action) | values
        sent = {name: value for name, value in filled.items() if value is not None}
        response = self.open("POST", action, data=sent)
        assert response.status_code == status, (response.status_code, response.text[:500])
        return response

    def log_in(self, email: str, password: str, path: str = "/login") -> TestResponse:
        """Log in by the form."""
        return self.submit(path, "/login", email=email, password=password)
