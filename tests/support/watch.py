"""What must never happen while a browser shows our pages: noted as it happens, judged at the end."""

from __future__ import annotations

from urllib.parse import urlsplit

from playwright.sync_api import BrowserContext, ConsoleMessage, Request, Response, WebError

# The event knows which element it was; the console's own line about it is caught as well.
REPORT_VIOLATIONS = """
addEventListener("securitypolicyviolation", (event) => console.error(
  `CSP stopped ${event.blockedURI} (${event.violatedDirective}) at ${event.sourceFile}:${event.lineNumber}`));
"""
LOCAL_SCHEMES = ("data", "blob", "about")
ABORTED = "net::ERR_ABORTED"  # Left for another page, or a download: no failure.


class Watch:
    """Notes every fault in a browser context: console errors, CSP violations, requests elsewhere, failed answers."""

    def __init__(self, context: BrowserContext, url: str) -> None:
        self.host = urlsplit(url).netloc
        self.faults: list[str] = []
        self.requests = 0
        context.add_init_script(REPORT_VIOLATIONS)
        context.on("console", self._console)
        context.on("weberror", self._error)
        context.on("request", self._request)
        context.on("requestfailed", self._failed)
        context.on("response", self._response)

    def check(self, log: str) -> None:
        """Check the server's output: nothing went wrong, and something was watched at all."""
        assert self.requests > 0, "no request was seen"
        assert not self.faults, "\n".join([*self.faults, log])

    def _console(self, message: ConsoleMessage) -> None:
        # A refused form is an answer with a status of 4xx, which Chromium notes as an error; `_response` judges it.
        if message.type == "error" and not message.text.startswith("Failed to load resource"):
            self.faults.append(f"console at {message.location['url']}: {message.text}")

    def _error(self, error: WebError) -> None:
        self.faults.append(f"script: {error.error}")

    def _request(self, request: Request) -> None:
        self.requests += 1
        address = urlsplit(request.url)
        if address.scheme not in LOCAL_SCHEMES and address.netloc != self.host:
            self.faults.append(f"request elsewhere: {request.method} {request.url}")

    def _failed(self, request: Request) -> None:
        if request.failure != ABORTED:
            self.faults.append(f"{request.failure}: {request.method} {request.url}")

    def _response(self, response: Response) -> None:
        # A page may say no, and so may the answer to something that was sent; what a page fetches has to be there.
        may_refuse = response.request.is_navigation_request() or response.request.method != "GET"
        if response.status >= (500 if may_refuse else 400):
            self.faults.append(f"answer {response.status}: {response.request.method} {response.url}")
