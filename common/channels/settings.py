"""What a channel type's configuration may hold: one pydantic model per type, read by the API and its documentation.

A field of type `Secret` or `OptionalSecret` is stored encrypted and read back as null; the rest is in the channel's
`config`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, ConfigDict, Field

from common.domain.errors import FieldError
from common.http.target import Host, Target, parse_target

#: Written, never read. The mark has to stand outside of `| None`, or the field does not carry it.
Secret = Annotated[str, Field(min_length=1, max_length=4096, json_schema_extra={"writeOnly": True})]
OptionalSecret = Annotated[str | None, Field(min_length=1, max_length=4096, json_schema_extra={"writeOnly": True})]


class ChannelSettings(BaseModel):
    """The configuration of one type of channel."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)

    #: Fields that say where secrets are sent: after a change the secrets have to be given again.
    LEADS: ClassVar[frozenset[str]] = frozenset()
    #: URLs whose path may hold a token of the receiver: viewers see the origin only.
    SHADED: ClassVar[frozenset[str]] = frozenset()

    def problems(self) -> Iterator[FieldError]:
        """What is wrong beyond single fields."""
        yield from ()

    def hosts(self) -> Iterator[tuple[str, Host]]:
        """(field, host) of every place that messages go to, for the egress policy."""
        yield from ()

    def needs_mail_server(self) -> bool:
        """Whether the installation's own mail server is needed."""
        return False

    @classmethod
    def generate(cls) -> Mapping[str, str]:
        """Secrets that the server makes for a new channel; `secret` among them is shown once."""
        return {}

    @classmethod
    def secret_fields(cls) -> frozenset[str]:
        """The names of the fields that are secrets."""
        return frozenset(name for name, field in cls.model_fields.items() if _is_secret(field.json_schema_extra))

    def split(self) -> tuple[dict[str, Any], dict[str, str]]:
        """(what is stored openly, what is sealed)."""
        hidden = self.secret_fields()
        values = self.model_dump(exclude_none=True)
        return (
            {name: value for name, value in values.items() if name not in hidden},
            {name: value for name, value in values.items() if name in hidden},
        )


def _is_secret(extra: Any) -> bool:
    return isinstance(extra, dict) and extra.get("writeOnly") is True


def web_problem(field: str, url: str) -> Iterator[FieldError]:
    """What is wrong with an http(s) URL; credentials in it would be shown to every reader."""
    target = parse_target(url)
    if isinstance(target, str):
        yield FieldError(field, target)
    elif target.authorization:
        yield FieldError(field, "must not hold credentials (user:password@)")


def web_host(field: str, url: str) -> Iterator[tuple[str, Host]]:
    """The host of an http(s) URL, if it is one."""
    target = parse_target(url)
    if isinstance(target, Target):
        yield field, target.host
