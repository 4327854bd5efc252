"""Who may ask the control API: programs on this machine, and the page that it serves; no other page in a browser.

A browser sends a request to any address that any page names, this machine's too, and a page's own host name may come
to mean this machine (DNS rebinding). What gives such a request away is its ``Host``, its ``Origin``, what the browser
says of it in ``Sec-Fetch-Site``, and a body that no form can send: https://fetch.spec.whatwg.org/#cors-safelisted-method
"""

from __future__ import annotations

from collections.abc import Mapping
from urllib.parse import urlsplit

_THIS_MACHINE = ("127.0.0.1", "localhost", "::1")
_JSON = ("application/json", "application/x-ndjson")


def refusal(method: str, headers: Mapping[str, str], *, has_body: bool) -> tuple[int, str] | None:
    """Return the status and the reason to refuse a request, or None to let it in.

    :param headers: by their names in lower case.
    """
    host = headers.get("host", "")
    if not _is_this_machine(host):
        return 403, f"the header Host must name this machine, such as 127.0.0.1 or localhost, not {host!r}"
    origin = headers.get("origin")
    if origin is not None and origin != f"http://{host}":
        return 403, f"a page of {origin!r} may not ask; only the page of http://{host} may"
    site = headers.get("sec-fetch-site", "none")
    # A link that a person follows shows what is here to that person alone.
    followed = method == "GET" and headers.get("sec-fetch-mode") == "navigate"
    if site not in ("same-origin", "none") and not followed:
        return 403, f"a page of another site ({site}) may not ask; only the page of http://{host} may"
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    if (kind or has_body) and method != "GET" and kind not in _JSON:
        return 415, f"the header Content-Type must be application/json, not {kind!r}"
    return None


def _is_this_machine(host: str) -> bool:
    try:
        named = urlsplit(f"//{host}")
        _ = named.port
    except ValueError:
        return False
    return named.hostname in _THIS_MACHINE and named.netloc == host and "@" not in host
