"""Options that several commands have."""

from __future__ import annotations

from typing import Annotated

import typer

Target = Annotated[str, typer.Argument(metavar="TARGET", help="https://host/path, or host:port.")]
Kind = Annotated[str | None, typer.Option("--type", metavar="TYPE", help="http, tcp, …; default: by the target.")]
Timeout = Annotated[float | None, typer.Option(metavar="SECONDS", help="How long a check may take; default 10.")]
Method = Annotated[str | None, typer.Option(metavar="METHOD", help="The request's method; default GET.")]
Header = Annotated[list[str] | None, typer.Option(metavar="'NAME: VALUE'", help="A request header; repeatable.")]
Status = Annotated[
    list[str] | None, typer.Option(metavar="CODES", help="Statuses that are well, like 200-299; repeatable.")
]
Contains = Annotated[list[str] | None, typer.Option(metavar="TEXT", help="What the body must hold; repeatable.")]
SlowerThan = Annotated[float | None, typer.Option(metavar="MS", help="From so many milliseconds on it is degraded.")]

Search = Annotated[str | None, typer.Option("--search", "-s", metavar="WORDS", help="Words to look for.")]
Limit = Annotated[int, typer.Option("--limit", "-n", metavar="COUNT", min=1, help="At most so many.")]
Json = Annotated[bool, typer.Option("--json", help="One JSON document on standard output, as the API answers.")]
Yes = Annotated[bool, typer.Option("--yes", "-y", help="Do not ask.")]
Comment = Annotated[
    str, typer.Option("--comment", "-m", metavar="TEXT", help="What there is to say; it stands in the timeline.")
]


def several(metavar: str, text: str) -> typer.models.OptionInfo:
    """An option that may be given more than once."""
    option: typer.models.OptionInfo = typer.Option(metavar=metavar, help=f"{text}; repeatable.")
    return option
