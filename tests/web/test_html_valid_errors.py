"""What is wrong with a form is said at its field, tied to it for assistive technology, and announced."""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import urlsplit

import pytest
from apiflask import APIFlask

from tests.support.application import EMAIL, PASSWORD
from tests.support.browser import HTML, Browser, Page
from tests.support.pages import PAGES
from tests.support.things import Things, make_things

NO_MORE_THAN_A_BUTTON = {"web.schedules.delete"}


@dataclass(frozen=True)
class Refused:
    """A form, what is typed into it, and the names of the fields that then say what is wrong."""

    page: str
    action: str
    values: dict[str, str]
    fields: tuple[str, ...]


FORMS: dict[str, Refused] = {
    "web.backups.start": Refused("/backups/", "/backups/", {"note": "x" * 3000}, ("note",)),
    "web.backups.note": Refused("/backups/{own}", "/backups/{own}/note", {"note": "x" * 3000}, ("note",)),
    "web.backups.delete": Refused("/backups/{own}/delete", "/backups/{own}/delete", {"password": ""}, ("password",)),
    "web.backups.unpin": Refused("/backups/{own}/unpin", "/backups/{own}/unpin", {"password": ""}, ("password",)),
    "web.restores.undo": Refused("/restores/{restore}/undo", "/restores/{restore}/undo", {"password": ""}, ("password",)),
    "web.restores.confirm": Refused(
        "/backups/{own}/restore/confirm?scope=all",
        "/backups/{own}/restore/confirm?scope=all",
        {"confirm": "another", "password": PASSWORD},
        ("confirm",),
    ),
    "web.restores.trust": Refused("/backups/{foreign}/trust", "/backups/{foreign}/trust", {"words": "yes"}, ("words",)),
    "web.schedules.create": Refused(
        "/schedules/new",
        "/schedules/new",
        {"name": "N", "frequency": "custom", "cron_expression": "often"},
        ("cron_expression",),
    ),
    "web.schedules.edit": Refused(
        "/schedules/{schedule}", "/schedules/{schedule}", {"hour": "25", "minute": "-1"}, ("hour", "minute")
    ),
    "web.settings.quotas": Refused("/settings/quotas", "/settings/quotas", {"keep_daily": ""}, ("keep_daily",)),
    "web.settings.notify": Refused(
        "/settings/notifications", "/settings/notifications", {"recipients": "nobody", "password": PASSWORD}, ("recipients",)
    ),
    "web.settings.limits": Refused(
        "/settings/limits", "/settings/limits", {"undo_hours": "-1", "password": PASSWORD}, ("undo_hours",)
    ),
    "web.recovery.sheet": Refused("/recovery", "/recovery", {"password": "wrong"}, ("password",)),
    "web.account.change_password": Refused(
        "/account/", "/account/password", {"password": PASSWORD, "new_password": "one", "again": "another"}, ("again",)
    ),
    "web.admins.invite": Refused("/admins/invite", "/admins/invite", {"email": "nobody", "password": PASSWORD}, ("email",)),
    "web.admins.disable": Refused(
        "/admins/{colleague}/disable", "/admins/{colleague}/disable", {"password": "wrong"}, ("password",)
    ),
    "web.admins.enable": Refused(
        "/admins/{disabled}/enable", "/admins/{disabled}/enable", {"password": "wrong"}, ("password",)
    ),
    "web.admins.remove": Refused(
        "/admins/{colleague}/remove", "/admins/{colleague}/remove", {"password": "wrong"}, ("password",)
    ),
    "web.tokens.create": Refused(
        "/tokens/new", "/tokens/new", {"name": "", "scopes": "read", "password": PASSWORD}, ("name",)
    ),
}


@pytest.fixture
def things(app: APIFlask) -> Things:
    """One of everything."""
    return make_things(app)


def check_told(page: Page, fields: tuple[str, ...]) -> None:
    """Check that each of these fields, and an alert, says why the form was refused."""
    controls = [element for tag in ("input", "select", "textarea") for element in page.select(tag)]
    invalid = {element.get("name"): element for element in controls if element.get("aria-invalid") == "true"}
    assert set(invalid) == set(fields)
    (summary,) = page.select("div", role="alert")
    announced = " ".join("".join(summary.itertext()).split())
    links = {link.get("href") for link in summary.iter(HTML + "a")}
    for name, control in invalid.items():
        described = (control.get("aria-describedby") or "").split()
        said = [page.by_id(place) for place in described if place.endswith("-error")]
        assert said, f"{name} does not say what is wrong"
        assert all(text in announced for text in said), (name, said, announced)
        assert f"#{control.get('id')}" in links, f"the summary does not lead to {name}"


def test_each_field_says_what_is_wrong_with_it(admin: Browser, things: Things) -> None:
    faults = {}
    for name, form in FORMS.items():
        try:
            action = form.action.format_map(things)
            response = admin.submit(form.page.format_map(things), action, status=422, **form.values)
            check_told(Page(response), form.fields)
        except AssertionError as error:
            faults[name] = str(error)[:400]
    assert faults == {}


def test_login_says_what_is_wrong(visitor: Browser) -> None:
    empty = Page(visitor.submit("/login", "/login", status=422, email="", password=""))
    check_told(empty, ("email", "password"))
    wrong = visitor.submit("/login", "/login", status=401, email=EMAIL, password="not it")
    assert Page(wrong).select("div", role="alert"), "a wrong password is not announced"


def test_somebody_who_is_invited_is_told_what_is_wrong(visitor: Browser, things: Things) -> None:
    page = visitor.get(things["invitation_page"])
    action = page.select("form")[0].get("action", "")
    short = visitor.submit(page, action, status=422, new_password="short", again="short")
    check_told(Page(short), ("new_password",))
    different = visitor.submit(page, action, status=422, new_password=PASSWORD, again="another password")
    check_told(Page(different), ("again",))


def test_a_filter_says_what_is_wrong(admin: Browser) -> None:
    page = admin.get("/activity/?since=never&until=2026-99-99", status=422)
    check_told(page, ("since", "until"))


def test_quotas_are_saved_only_with_the_right_password(admin: Browser) -> None:
    quotas = {f"keep_{name}": "3" for name in ("hourly", "daily", "weekly", "monthly")}
    review = Page(admin.submit("/settings/quotas", "/settings/quotas", status=200, **quotas))
    (password,) = review.select("input", name="password")
    (form,) = (form for form in review.select("form") if password in form.iter())
    refused = admin.submit(review, form.get("action", ""), status=422, password="wrong")
    check_told(Page(refused), ("password",))


def test_every_form_with_a_field_is_tried(app: APIFlask, admin: Browser, things: Things) -> None:
    tried = {*FORMS, *NO_MORE_THAN_A_BUTTON, "web.uploads.receive", "web.settings.save_quotas", "web.auth.login"}
    untried = set()
    adapter = app.url_map.bind("localhost")
    for templates in PAGES.values():
        path = templates[0].format_map(things)
        page = admin.get(path)
        for form in page.select("form", method="post"):
            typed = [field for field in form.iter() if _is_typed(field.tag, field.get("type"))]
            endpoint, _ = adapter.match(urlsplit(form.get("action") or path).path, method="POST")
            if typed and endpoint not in tried:
                untried.add(endpoint)
    assert untried == set(), "add them to FORMS"


def _is_typed(tag: object, kind: str | None) -> bool:
    is_text = tag == HTML + "input" and kind not in ("hidden", "checkbox", "radio")
    return is_text or tag in (HTML + "textarea", HTML + "select")
