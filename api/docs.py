"""/docs and /openapi.json: the documentation, made once from the routes, without a script or anything from outside."""

from __future__ import annotations

import base64
import functools
import hashlib
import json
from collections.abc import Iterable
from typing import Any

from flask import Response, redirect, render_template_string
from markupsafe import Markup

from api.openapi import document
from api.replies import reply
from api.routing import Route, Routes

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:0 auto;max-width:60rem;padding:1rem;color:#1d2330;background:#fff}
h1{margin-bottom:0}h2{border-bottom:1px solid #ccd;margin-top:2.5rem;text-transform:capitalize}
details{border:1px solid #dde;border-radius:6px;margin:.5rem 0;padding:.4rem .8rem}summary{cursor:pointer}
code,pre{font:13px/1.45 ui-monospace,monospace}pre{background:#f4f5f9;overflow:auto;padding:.6rem;border-radius:4px}
b.m{display:inline-block;min-width:4.2rem;color:#1a6e3c}b.POST,b.PUT,b.PATCH{color:#8a5a00}b.DELETE{color:#b3261e}
.q{color:#667}td,th{padding:.1rem 1rem .1rem 0;text-align:left}
@media(prefers-color-scheme:dark){
body{background:#14161c;color:#dde}pre{background:#1e212b}details{border-color:#334}a{color:#8ab4ff}.q{color:#99a}
b.m{color:#6dd58c}b.POST,b.PUT,b.PATCH{color:#f0b849}b.DELETE{color:#ff8a80}}
"""

_PAGE = """<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Tocsin API</title>
<meta name="viewport" content="width=device-width, initial-scale=1"><style>{{ style|safe }}</style></head>
<body><h1>{{ spec.info.title }} API</h1><p>{{ prose(spec.info.description) }}</p>
<p><a href="/openapi.json">openapi.json</a> · OpenAPI {{ spec.openapi }}</p>
{% for tag in spec.tags %}<h2>{{ tag.name }}</h2>
{% for path, methods in spec.paths.items() %}{% for method, op in methods.items() if tag.name in op.tags %}
<details id="{{ op.operationId }}"><summary>
<b class="m {{ method|upper }}">{{ method|upper }}</b> <code>{{ path }}</code>
<span class="q">{{ prose(op.summary) }}</span></summary><p>{{ prose(op.description) }}</p>
{% if op["x-permission"] %}<p class="q">Permission: <code>{{ op["x-permission"] }}</code></p>{% endif %}
{% if op.security %}<p class="q">Credentials: {% for one in op.security %}<code>{{ one|first }}</code> {% endfor %}</p>
{% endif %}{% if op.parameters %}<table><tr><th>Parameter</th><th>In</th><th>Schema</th></tr>
{% for p in op.parameters %}<tr><td><code>{{ p.name }}</code></td><td>{{ p.in }}</td>
<td><code>{{ p.schema|tojson }}</code></td></tr>{% endfor %}</table>{% endif %}
{% if op.requestBody %}<p>Body</p>{% for kind, media in op.requestBody.content.items() %}
<p class="q">{{ kind }}: {{ link(media.schema) }}</p>{% endfor %}{% endif %}
{% for status, named in op.responses.items() %}{% set answer = whole(named) %}
<p class="q">{{ status }} {{ prose(answer.description) }}
{% for kind, media in (answer.content or {}).items() %}{{ kind }}: {{ link(media.schema) }}{% endfor %}</p>{% endfor %}
</details>{% endfor %}{% endfor %}{% endfor %}
<h2>schemas</h2>{% for name, schema in spec.components.schemas.items() %}
<details id="schema-{{ name }}"><summary><code>{{ name }}</code>
<span class="q">{{ prose(schema.description) }}</span></summary>
<pre>{{ pretty(schema) }}</pre></details>{% endfor %}</body></html>
"""


def docs(routes: Iterable[Route]) -> Routes:
    """The documentation's own routes, over all the others."""
    listed = list(routes)
    own = Routes("documentation")

    @functools.cache
    def spec() -> dict[str, Any]:
        return document(listed)

    @functools.cache
    def page() -> str:
        responses = spec()["components"]["responses"]

        def whole(response: dict[str, Any]) -> dict[str, Any]:
            name = response.get("$ref", "").rsplit("/", 1)[-1]
            found: dict[str, Any] = responses[name] if name else response
            return found

        words = {"pretty": _pretty, "link": _in_words, "prose": _prose, "whole": whole}
        return render_template_string(_PAGE, spec=spec(), style=_STYLE, **words)

    @own.get("/openapi.json")
    def openapi_document() -> Response:
        """The OpenAPI document."""
        return reply(spec(), 200)

    @own.get("/docs")
    def documentation() -> Response:
        """The documentation for people."""
        response = Response(page(), content_type="text/html; charset=utf-8")
        response.headers["Content-Security-Policy"] = _POLICY
        return response

    @own.get("/")
    def front() -> Response:
        """There are no pages yet: to the documentation."""
        return redirect("/docs")  # type: ignore[return-value]

    return own


_POLICY = (
    "default-src 'none'; frame-ancestors 'none'; style-src 'sha256-"
    + base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
    + "'"
)


def _prose(text: str | None) -> Markup:
    """A docstring's text as HTML: `code` in backticks, everything else escaped."""
    parts = (text or "").split("`")
    return Markup("").join(Markup("<code>{}</code>").format(part) if n % 2 else part for n, part in enumerate(parts))


def _pretty(schema: Any) -> str:
    return json.dumps(schema, indent=2, ensure_ascii=False)


def _in_words(schema: dict[str, Any]) -> str:
    """A schema as one word or line: its name, a page of it, or what it says about itself."""
    if "$ref" in schema:
        return str(schema["$ref"]).rsplit("/", 1)[1]
    data = schema.get("properties", {}).get("data")
    return f"page of {_in_words(data['items'])}" if data else str(schema.get("description", schema.get("type", "any")))
