"""The page at /: one file, no request to anywhere else, and a policy that forbids any."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path

from fastapi import Response

__all__ = ["page_response"]

PAGE = Path(__file__).with_name("page.html")


async def page_response() -> Response:
    """The page with its headers."""
    html, policy = _page()
    headers = {
        "Content-Security-Policy": policy,
        "Cache-Control": "no-cache",
        "Referrer-Policy": "no-referrer",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(html, media_type="text/html; charset=utf-8", headers=headers)


@cache
def _page() -> tuple[str, str]:
    """The page, and a policy that lets its own style and script run, by their hashes, and nothing else."""
    html = PAGE.read_text("utf-8")
    policy = (
        f"default-src 'none'; style-src {_hash(html, 'style')}; script-src {_hash(html, 'script')}; "
        "connect-src 'self'; img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    )
    return html, policy


def _hash(html: str, tag: str) -> str:
    (content,) = re.findall(rf"<{tag}>(.*?)</{tag}>", html, re.DOTALL)
    return f"'sha256-{base64.b64encode(hashlib.sha256(content.encode()).digest()).decode()}'"
