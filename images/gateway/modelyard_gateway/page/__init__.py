"""The page at `/`: what this is, a form to try it, and live figures. Nothing on it comes from elsewhere."""

from __future__ import annotations

from pathlib import Path

# The page loads its own two files and asks its own gateway: whatever got into it could neither load nor tell anything.
_POLICY = (
    b"content-security-policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
    b"base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n"
    b"x-content-type-options: nosniff\r\nreferrer-policy: no-referrer\r\ncache-control: no-cache\r\n"
)
_FILES = {
    "/": ("index.html", b"text/html; charset=utf-8"),
    "/-/page.css": ("page.css", b"text/css; charset=utf-8"),
    "/-/page.js": ("page.js", b"text/javascript; charset=utf-8"),
}


def read_files() -> dict[str, tuple[bytes, bytes]]:
    """Header lines and body of each path."""
    folder = Path(__file__).parent
    return {
        path: (b"content-type: %b\r\n%b" % (media, _POLICY), (folder / name).read_bytes())
        for path, (name, media) in _FILES.items()
    }
