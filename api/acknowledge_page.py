"""The page behind an acknowledgement link: one card that asks, or says how things stand. No scripts, nothing loaded."""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from datetime import UTC, datetime

from flask import Response, render_template_string

_STYLE = """
:root{color-scheme:light dark;--page:#f3f4f8;--card:#fff;--text:#171b26;--soft:#596074;--line:#e3e6ee;--go:#1f4fd8;
--go-over:#1a43b8;--tone:#475569;--wash:#eef1f6;--shade:0 1px 2px #171b2612,0 16px 40px -16px #171b2638}
.critical{--tone:#b3261e;--wash:#fdeceb}.error{--tone:#b4430a;--wash:#fdf0e7}.warning{--tone:#855d00;--wash:#fdf5dd}
.info{--tone:#1d4ed8;--wash:#eaf0fe}.done{--tone:#13703a;--wash:#e7f6ec}
@media(prefers-color-scheme:dark){:root{--page:#0f1218;--card:#181c25;--text:#eceef4;--soft:#a3abbd;--line:#2b3140;
--go:#3d6bf2;--go-over:#5480ff;--tone:#a8b3c7;--wash:#242a36;--shade:0 0 0 1px #2b3140}
.critical{--tone:#ff9a92;--wash:#3a1d1c}.error{--tone:#ffb083;--wash:#38241a}.warning{--tone:#f2cb6c;--wash:#332a15}
.info{--tone:#9dbcff;--wash:#1c2744}.done{--tone:#7fdba0;--wash:#17301f}}
*{box-sizing:border-box;margin:0}
body{min-height:100vh;min-height:100svh;display:flex;flex-direction:column;align-items:center;justify-content:center;
gap:1.1rem;padding:1.25rem;background:var(--page);color:var(--text);
font:1.0625rem/1.5 system-ui,-apple-system,"Segoe UI",Roboto,"Helvetica Neue",sans-serif;-webkit-text-size-adjust:100%}
main{width:100%;max-width:27rem;overflow:hidden;background:var(--card);border-radius:1rem;box-shadow:var(--shade)}
header{display:flex;align-items:center;gap:.6rem;padding:.85rem 1.5rem;background:var(--wash);color:var(--tone);
font-weight:650}
header svg{flex:none}
section{padding:1.4rem 1.5rem 1.5rem}
h1{font-size:1.45rem;line-height:1.25;letter-spacing:-.012em;overflow-wrap:anywhere;text-wrap:balance}
.cause{margin-top:.5rem;color:var(--soft);overflow-wrap:anywhere}
dl{display:grid;grid-template-columns:auto 1fr;gap:.4rem 1.1rem;margin-top:1.15rem;padding-top:1.15rem;
border-top:1px solid var(--line)}
dt{color:var(--soft)}dd{overflow-wrap:anywhere}small{display:block;color:var(--soft);font-size:.875rem}
.note{margin-top:1.15rem;color:var(--soft);font-size:.9375rem}
button{display:block;width:100%;min-height:3.25rem;margin-top:1.3rem;padding:.75rem 1rem;border:0;border-radius:.75rem;
background:var(--go);color:#fff;font:inherit;font-weight:650;cursor:pointer}
button:hover{background:var(--go-over)}
button:focus-visible{outline:3px solid var(--go);outline-offset:3px}
footer{color:var(--soft);font-size:.875rem}
@media(prefers-color-scheme:dark){button{background:#2f5be0}button:hover{background:#3a66ea}}
@media(forced-colors:active){main{border:1px solid}button{border:1px solid}}
"""

#: What stands before the state, as paths of a 24 by 24 drawing.
_ICONS = {
    "alert": "M12 3 2.5 20h19ZM12 10v4.5M12 17.6v.1",
    "done": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM8 12.3l2.8 2.8L16 9.8",
    "clock": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM12 7.5V12l3 2",
    "broken": "M12 3a9 9 0 1 0 0 18 9 9 0 0 0 0-18ZM9 9l6 6M15 9l-6 6",
}

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{{ page.state }}: {{ page.heading }} · Tocsin</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><meta name="robots" content="noindex">
<meta name="color-scheme" content="light dark">
<style>{{ style|safe }}</style></head>
<body><main class="{{ page.tone }}">
<header{% if not page.asks %} role="status"{% endif %}><svg width="22" height="22" viewBox="0 0 24 24" fill="none" \
stroke="currentColor" stroke-width="2" stroke-linecap="round" stroke-linejoin="round" aria-hidden="true">\
<path d="{{ icon }}"/></svg>{{ page.state }}</header>
<section><h1>{{ page.heading }}</h1>
{% if page.cause %}<p class="cause">{{ page.cause }}</p>
{% endif %}{% if page.facts %}<dl>{% for name, value, exactly in page.facts %}<dt>{{ name }}</dt><dd>{{ value }}\
{% if exactly %}<small>{{ exactly }}</small>{% endif %}</dd>
{% endfor %}</dl>
{% endif %}{% if page.note %}<p class="note">{{ page.note }}</p>
{% endif %}{% if page.asks %}<form method="post"><button type="submit">Acknowledge</button></form>
{% endif %}</section></main><footer>Tocsin</footer></body></html>
"""

_POLICY = (
    "default-src 'none'; form-action 'self'; frame-ancestors 'none'; base-uri 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


Fact = tuple[str, str, str]
"""(name, value, the same more exactly)"""


@dataclass(frozen=True, slots=True)
class Page:
    """What to show. `state` is how things stand, in a word or two; `asks`: with the button."""

    status: int
    state: str
    heading: str
    icon: str
    tone: str = ""
    cause: str = ""
    facts: tuple[Fact, ...] = ()
    note: str = ""
    asks: bool = False


def show(page: Page) -> Response:
    """The page as an answer."""
    html = render_template_string(_PAGE, page=page, style=_STYLE, icon=_ICONS[page.icon])
    response = Response(html, page.status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = _POLICY
    return response


def moment(name: str, at: str, now: datetime) -> Fact:
    """A time of an incident for people: how long ago, and when."""
    then = datetime.fromisoformat(at)
    minutes = max(0, int((now - then).total_seconds() // 60))
    days, hours = minutes // 1440, minutes // 60 % 24
    parts = [f"{days} d"] * bool(days) + [f"{hours} h"] * bool(hours) + [f"{minutes % 60} min"] * (not days)
    return name, f"{' '.join(parts)} ago" if minutes else "just now", f"{then.astimezone(UTC):%Y-%m-%d %H:%M} UTC"
