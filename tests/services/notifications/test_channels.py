"""Which Apprise URLs are channels: none that touches this machine."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.services import delivery

REFUSED = [
    "syslog://",
    "syslog://daemon",
    "dbus://",
    "gnome://",
    "kde://",
    "macosx://",
    "windows://",
    "deltachat://me@example.com",
    "file:///etc/passwd",
    "exec://id",
    "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz?template=/etc/passwd",
    "https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz?Template=%2Fetc%2Fpasswd",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general?x=1;tem%70late=/etc/passwd",
    "fcm://project@apikey/DEVICE?keyfile=/etc/backup.env",
    "ntfy://ntfy.example.com/topic?attach=file:///etc/passwd",
    "ntfys://ntfy.example.com/topic?attach=http://192.0.2.1/",
    "mailto://user:pass@example.com?pgp=yes&pgpkey=/etc/backup.env",
    "json://example.com/?avatar=FILE:///etc/passwd",
    "json://example.com, syslog://",
    "json://example.com syslog://",
    "",
    "nonsense",
]
ACCEPTED = [
    "ntfys://ntfy.example.com/topic?priority=high&tags=backup",
    "discord://123456789012345678/abcdefghijklmnopqrstuvwxyz?avatar=no",
    "https://discord.com/api/webhooks/123456789012345678/abcdefghijklmnopqrstuvwxyz",
    "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ/#general",
    "gotifys://gotify.example.com/token",
    "jsons://user:password@example.com:8443/path?+X-Header=value",
    "tgram://123456789:abcdefg_hijklmnop/12315544/",
    "mailtos://user:pass@example.com?to=a@example.org",
    "matrixs://user:token@matrix.example.com/#room",
]


@pytest.mark.parametrize("url", REFUSED)
def test_what_touches_this_machine_is_no_channel(url: str) -> None:
    assert delivery.channel_problem(url)


@pytest.mark.parametrize("url", ACCEPTED)
def test_services_of_the_network_are_channels(url: str) -> None:
    assert delivery.channel_problem(url) is None


def test_a_channel_that_was_saved_before_sends_no_file_either(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("the secret")
    with pytest.raises(delivery.Undelivered, match="template") as caught:
        delivery.channel(f"discord://123456789012345678/abcdefghijklmnopqrstuvwxyz?template={secret}", "title", "text")
    assert caught.value.final
