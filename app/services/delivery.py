"""Deliver one message: by SMTP, through Apprise, or as a ping of a heartbeat URL."""

from __future__ import annotations

import ipaddress
import logging
import re
import smtplib
import socket
import ssl
from collections.abc import Iterable
from contextlib import closing
from email.message import EmailMessage
from email.utils import formatdate
from urllib.error import HTTPError, URLError
from urllib.parse import unquote, unquote_plus, urlsplit
from urllib.request import Request, urlopen

from app.config import Settings

TIMEOUT_SECONDS = 15.0
NOT_UNDERSTOOD = (
    "Apprise does not understand this URL. Its documentation names the form for each service, for example "
    "ntfys://ntfy.example.com/topic."
)
# Apprise services that reach the desktop, the system log or programs on this machine, or read keys from its disk.
LOCAL_SERVICES = {
    "dbus", "kde", "qt", "glib", "gnome", "macosx", "windows", "syslog", "deltachat", "deltachats", "vapid", "growl", "exec",
}  # fmt: skip
# `template`, `keyfile`, `subfile`, `attach` and the like; PGP and S/MIME read keys from the disk.
LOCAL_PARAMETERS = re.compile(r"templ|file|attach|pgp|smime|cert|include|plugin|storage")
PORTS = {"smtp": 587, "smtps": 465}


class Undelivered(Exception):
    """A message was not delivered. str() is a sentence without secrets. `final`: a retry would not help. `server`: the
    server is at fault, so other messages to it would fail as well."""

    def __init__(self, detail: str, final: bool = False, server: bool = False) -> None:
        super().__init__(detail)
        self.final = final
        self.server = server


def email(settings: Settings, message_id: str, to: str, title: str, text: str, html: str | None) -> None:  # noqa: PLR0913, PLR0917 - a mail
    """Send a message to one address through SMTP_URL. Raise Undelivered.

    smtps:// uses TLS from the start; smtp:// upgrades by STARTTLS, without which no password is sent.
    """
    if not settings.smtp_url:
        raise Undelivered("SMTP_URL is not set, so no mail can be sent.", server=True)
    message = EmailMessage()
    message["Subject"], message["To"], message["From"] = title, to, _sender(settings)
    message["Date"] = formatdate(usegmt=True)
    message["Message-ID"] = f"<{message_id}@{_domain(str(message['From']))}>"
    message["Auto-Submitted"] = "auto-generated"
    message.set_content(text)
    if html:
        message.add_alternative(html, subtype="html")
    try:
        with closing(_connect(settings.smtp_url)) as client:
            client.send_message(message)
            client.quit()
    except smtplib.SMTPRecipientsRefused as error:
        code, answer = next(iter(error.recipients.values()))
        raise Undelivered(f"The mail server refused {to}: {_text(answer)}", final=code >= 500) from None
    except smtplib.SMTPAuthenticationError as error:
        raise Undelivered(f"The mail server refused SMTP_URL's password: {_text(error.smtp_error)}", server=True) from None
    except smtplib.SMTPResponseException as error:
        detail = f"The mail server refused the mail: {error.smtp_code} {_text(error.smtp_error)}"
        raise Undelivered(detail, final=500 <= error.smtp_code < 600) from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise Undelivered(f"The mail server (SMTP_URL) can't be reached: {_text(error)}", server=True) from None


def check_server(url: str) -> None:
    """Connect and log in to SMTP_URL without sending anything. Raise Undelivered."""
    try:
        with closing(_connect(url)) as client:
            client.quit()
    except smtplib.SMTPAuthenticationError as error:
        raise Undelivered(f"The mail server refused SMTP_URL's password: {_text(error.smtp_error)}", server=True) from None
    except (smtplib.SMTPException, OSError, ValueError) as error:
        raise Undelivered(f"The mail server (SMTP_URL) can't be reached: {_text(error)}", server=True) from None


def channel_problem(url: str) -> str | None:
    """Return why an Apprise URL is refused as a channel, or None.

    Some Apprise services act on the machine that they run on, and some parameters name files to read: whoever may change
    settings must not be able to exfiltrate this machine's files or make it run programs.
    """
    import apprise  # noqa: PLC0415 - it takes long
    from apprise.utils.parse import parse_urls  # noqa: PLC0415

    if len(parse_urls(url)) > 1:  # type: ignore[no-untyped-call]
        return "This is more than one URL. Add a channel for each."
    for name, value in _parameters(url):
        if LOCAL_PARAMETERS.search(name) or value.strip().lower().startswith("file:"):
            return f"The parameter '{name}' is not accepted, since it can name a file on this machine. Leave it out."
    plugin = apprise.Apprise.instantiate(url, suppress_exceptions=True)
    if plugin is None:
        return NOT_UNDERSTOOD
    names = {name for kind in (plugin.protocol, plugin.secure_protocol) for name in _several(kind)}
    if names & LOCAL_SERVICES or type(plugin).__module__.partition(".")[0] != "apprise":
        return "This service acts on this machine instead of sending over the network. Choose another one."
    return None


def _several(names: object) -> list[str]:
    return [names] if isinstance(names, str) else [str(name) for name in names] if isinstance(names, Iterable) else []


def _parameters(url: str) -> list[tuple[str, str]]:
    """Return the parameters of an Apprise URL; Apprise accepts `;` as well as `&` between them."""
    query = url.partition("?")[2]
    parts = [part.partition("=") for part in re.split("[&;?]", query)]
    return [(unquote_plus(name).strip().lower(), unquote_plus(value)) for name, _, value in parts if name]


def channel(url: str, title: str, text: str) -> None:
    """Send a message to an Apprise URL. Raise Undelivered, which does not name the URL."""
    import apprise  # noqa: PLC0415 - it takes long

    # Apprise may log parts of the URL.
    logging.getLogger("apprise").setLevel(logging.CRITICAL + 1)
    problem = channel_problem(url)
    if problem is not None:
        raise Undelivered(f"{problem} Enter the channel again.", final=True)
    sender = apprise.Apprise()
    sender.add(url)
    if not sender.notify(body=text, title=title, body_format=apprise.NotifyFormat.TEXT):
        raise Undelivered("The channel did not accept the message. Check its URL and that the service is up.")


def ping(url: str) -> None:
    """Request a heartbeat URL. Raise Undelivered, which does not name the URL."""
    if urlsplit(url).scheme not in ("http", "https"):
        raise Undelivered("The heartbeat URL is not an http or https address. Enter it again.", final=True)
    try:
        # Settings accept http and https only.
        request = Request(url, headers={"User-Agent": "backup-heartbeat"})  # noqa: S310
        with urlopen(request, timeout=TIMEOUT_SECONDS) as answer:  # noqa: S310
            answer.read(1024)
    except HTTPError as error:
        with error:
            raise Undelivered(f"The heartbeat URL answered {error.code}.") from None
    except (URLError, OSError, ValueError) as error:
        reason = error.reason if isinstance(error, URLError) else type(error).__name__
        raise Undelivered(f"The heartbeat URL can't be reached: {_text(reason)}") from None


def _connect(url: str) -> smtplib.SMTP:
    parts = urlsplit(url)
    host, port = parts.hostname or "", parts.port or PORTS[parts.scheme]
    context = ssl.create_default_context()
    if parts.scheme == "smtps":
        client: smtplib.SMTP = smtplib.SMTP_SSL(host, port, timeout=TIMEOUT_SECONDS, context=context)
    else:
        client = smtplib.SMTP(host, port, timeout=TIMEOUT_SECONDS)
    try:
        client.ehlo()
        safe = parts.scheme == "smtps"
        if not safe and client.has_extn("starttls"):
            client.starttls(context=context)
            client.ehlo()
            safe = True
        if parts.username:
            if not safe and not _is_loopback(host):
                raise smtplib.SMTPException("it does not offer TLS, so the password was not sent")
            client.login(unquote(parts.username), unquote(parts.password or ""))
    except BaseException:
        client.close()
        raise
    return client


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _sender(settings: Settings) -> str:
    user = unquote(urlsplit(settings.smtp_url or "").username or "")
    return settings.mail_from or (user if "@" in user else f"{settings.app_name}-backup@{socket.getfqdn()}")


def _domain(address: str) -> str:
    return address.rpartition("@")[2].strip(" >") or "localhost"


def _text(answer: object) -> str:
    return " ".join((answer.decode(errors="replace") if isinstance(answer, bytes) else str(answer)).split())[:300]
