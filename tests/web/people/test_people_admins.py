"""The admins' pages: invited, disabled, enabled, removed."""

from __future__ import annotations

from urllib.parse import urlsplit

from apiflask import APIFlask

from app.extensions import db
from app.models import Admin, AdminInvitation
from app.services.audit import audit
from app.services.audit.actor import Actor
from app.services.people import admins, tokens
from app.services.people.invitations import LASTS
from tests.support.application import EMAIL, PASSWORD, TESTER
from tests.support.browser import Browser, Page

OTHER = "other@example.com"
NEW = "another fine password"


def other_admin() -> Admin:
    """Make a second admin."""
    return admins.create(TESTER, OTHER, NEW)


def invite(admin: Browser, email: str = OTHER) -> str:
    """Invite somebody by the form, and return the link that is shown."""
    answer = admin.submit("/admins/invite", "/admins/invite", email=email, password=PASSWORD)
    return admin.get(answer.location or "").select("input", id="secret")[0].get("value", "")


def path_of(link: str) -> str:
    """Return the path that a browser requests for a link."""
    parts = urlsplit(link)
    assert parts.path == "/invitation", "the secret is not in the path, which is logged"
    return f"{parts.path}?{parts.query}"


def test_the_list_says_who_is_an_admin_and_where_they_are_logged_in(admin: Browser) -> None:
    other_admin()
    page = admin.get("/admins/")
    assert "2 people can log in" in page.text
    assert OTHER in page.text
    assert "There is only one admin" not in page.text


def test_a_lonely_admin_is_told_that_a_second_one_helps(admin: Browser) -> None:
    assert "There is only one admin who can log in." in admin.get("/admins/").text


def test_whoever_is_invited_chooses_a_password_and_is_an_admin(app: APIFlask, admin: Browser) -> None:
    link = invite(admin)
    guest = Browser(app.test_client())
    assert EMAIL in guest.get(path_of(link)).text
    answer = guest.submit(path_of(link), path_of(link), new_password=NEW, again=NEW)
    assert answer.location == "/"
    assert OTHER in guest.get("/account/").text
    assert OTHER in admin.get("/admins/").text
    entry = audit.list_entries(action="admin.joined").items[0]
    assert (entry.actor_name, entry.detail["invited_by"]) == (OTHER, EMAIL)


def test_a_link_works_only_once(app: APIFlask, admin: Browser) -> None:
    path = path_of(invite(admin))
    first, second = Browser(app.test_client()), Browser(app.test_client())
    page = second.get(path)
    first.submit(path, path, new_password=NEW, again=NEW)
    assert "This invitation no longer works" in Page(second.submit(page, path, 404, new_password=NEW, again=NEW)).text
    assert "This invitation no longer works" in second.get(path, 404).text


def test_a_link_works_for_three_days_only(app: APIFlask, admin: Browser) -> None:
    path = path_of(invite(admin))
    row = db.session.scalars(db.select(AdminInvitation)).one()
    row.expires_at = row.expires_at - LASTS
    db.session.commit()
    assert "no longer works" in Browser(app.test_client()).get(path, 404).text
    assert "Pending invitations" not in admin.get("/admins/").text


def test_a_withdrawn_or_replaced_link_does_nothing(app: APIFlask, admin: Browser) -> None:
    first = path_of(invite(admin))
    second = path_of(invite(admin))
    assert first != second
    guest = Browser(app.test_client())
    guest.get(first, 404)
    guest.get(second)
    row = db.session.scalars(db.select(AdminInvitation)).one()
    admin.submit("/admins/", f"/admins/invitations/{row.id}/withdraw")
    assert f"The invitation of {OTHER} is withdrawn" in admin.get("/admins/").text
    guest.get(second, 404)


def test_a_link_is_shown_once_and_only_its_hash_is_kept(app: APIFlask, admin: Browser) -> None:
    link = invite(admin)
    row = db.session.scalars(db.select(AdminInvitation)).one()
    secret = link.rpartition("=")[2]
    assert secret not in (row.secret_hash, row.email)
    again = admin.get(f"/admins/invitations/{row.id}")
    assert "already been shown" in again.text
    assert secret not in again.html


def test_two_different_passwords_are_told_at_the_second(app: APIFlask, admin: Browser) -> None:
    path = path_of(invite(admin))
    guest = Browser(app.test_client())
    page = Page(guest.submit(path, path, 422, new_password=NEW, again="something else"))
    field = page.select("input", id="again")[0]
    assert field.get("aria-invalid") == "true"
    assert field.get("aria-describedby") == "again-error"
    assert "two different passwords" in page.by_id("again-error")
    assert page.select("a", href="#again")
    page = Page(guest.submit(path, path, 422, new_password="short", again="short"))
    assert "at least 10 characters" in page.by_id("new_password-error")


def test_inviting_takes_an_address_and_the_password(admin: Browser) -> None:
    page = Page(admin.submit("/admins/invite", "/admins/invite", 422, email="", password=""))
    assert page.by_id("email-error") == "Enter the address of the person to invite."
    for email, word in (("nobody", "@"), (EMAIL, "already an admin")):
        page = Page(admin.submit("/admins/invite", "/admins/invite", 422, email=email, password=PASSWORD))
        assert word in page.by_id("email-error")
    page = Page(admin.submit("/admins/invite", "/admins/invite", 422, email=OTHER, password="wrong"))
    assert "The password is wrong" in page.by_id("password-error")
    assert db.session.scalar(db.select(AdminInvitation)) is None


def test_disabling_says_what_will_end_and_what_has_ended(app: APIFlask, admin: Browser) -> None:
    other = other_admin()
    theirs = Browser(app.test_client())
    theirs.log_in(OTHER, NEW)
    _, secret = tokens.create(Actor("admin", str(other.id), OTHER), "their script", ["read"], NEW)
    url = f"/admins/{other.id}/disable"
    page = admin.get(url)
    assert "their 1 open session" in page.text
    assert "their script" in page.text
    admin.submit(page, url, password=PASSWORD)
    assert f"{OTHER} is disabled. Ended: 1 session and 1 token." in admin.get("/admins/").text
    assert theirs.redirected("/backups/").startswith("/login")
    header = {"Authorization": f"Bearer {secret}"}
    assert app.test_client().get("/api/admin/backups", headers=header).status_code == 401


def test_an_enabled_admin_logs_in_again_but_their_old_session_and_token_stay_ended(app: APIFlask, admin: Browser) -> None:
    other = other_admin()
    theirs = Browser(app.test_client())
    theirs.log_in(OTHER, NEW)
    token, secret = tokens.create(Actor("admin", str(other.id), OTHER), "their script", ["read"], NEW)
    admin.submit(f"/admins/{other.id}/disable", f"/admins/{other.id}/disable", password=PASSWORD)
    admin.submit(f"/admins/{other.id}/enable", f"/admins/{other.id}/enable", password=PASSWORD)
    assert f"{OTHER} can log in again." in admin.get("/admins/").text
    assert theirs.redirected("/backups/").startswith("/login")
    assert tokens.get(token.id).revoked_at is not None
    assert tokens.authenticate(secret) is None
    assert theirs.log_in(OTHER, NEW).location == "/"


def test_a_removed_admin_is_gone_but_what_they_did_is_told(app: APIFlask, admin: Browser) -> None:
    other = other_admin()
    actor = Actor("admin", str(other.id), OTHER)
    token, _ = tokens.create(actor, "their script", ["read"], NEW)
    admin.submit(f"/admins/{other.id}/remove", f"/admins/{other.id}/remove", password=PASSWORD)
    page = admin.get("/admins/")
    assert f"{OTHER} is removed. Ended: no sessions and 1 token." in page.text
    assert tokens.get(token.id).created_by is None
    assert tokens.get(token.id).created_by_name == OTHER
    assert "their script" in admin.get(f"/activity/?who={OTHER}").text


def test_a_wrong_password_disables_nobody(admin: Browser) -> None:
    other = other_admin()
    page = Page(admin.submit(f"/admins/{other.id}/disable", f"/admins/{other.id}/disable", 422, password="wrong"))
    assert "The password is wrong" in page.by_id("password-error")
    assert admins.get(other.id).disabled_at is None


def test_ones_own_account_and_the_last_one_have_no_button(admin: Browser) -> None:
    me = admins.find(EMAIL)
    page = admin.get(f"/admins/{me.id}/disable")
    assert "the last admin who can log in" in page.text
    assert not page.select("form", action=f"/admins/{me.id}/disable")
    other_admin()
    assert "This is your own account" in admin.get(f"/admins/{me.id}/remove").text


def test_invitations_of_a_disabled_admin_end_too(app: APIFlask, admin: Browser) -> None:
    other = other_admin()
    theirs = Browser(app.test_client())
    theirs.log_in(OTHER, NEW)
    answer = theirs.submit("/admins/invite", "/admins/invite", email="third@example.com", password=NEW)
    link = theirs.get(answer.location or "").select("input", id="secret")[0].get("value", "")
    admin.submit(f"/admins/{other.id}/disable", f"/admins/{other.id}/disable", password=PASSWORD)
    assert "and 1 invitation." in admin.get("/admins/").text
    Browser(app.test_client()).get(path_of(link), 404)
