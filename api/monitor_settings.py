"""Monitors' settings as plans compare them and as people write them: complete, or without what is the default."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from typing import Any, get_args

from pydantic import BaseModel
from pydantic_core import PydanticUndefined

from api.monitor_documents import settings_document
from api.schemas_monitors import AssertionIn, MonitorIn
from api.schemas_options import KEPT
from common.domain.plans import Hidden
from common.store.monitors import MonitorSettings

Document = dict[str, Any]

#: What the defaults of a type are where they are others.
_DEFAULTS_OF: Mapping[str, Document] = {"heartbeat": {"failure_threshold": 1}}


def complete(settings: MonitorSettings, location_names: Mapping[int, str]) -> Document:
    """Everything that a monitor is set to but its key, with its secrets hidden: two equal ones mean the same."""
    row = {name: getattr(settings, name) for name in MonitorSettings.__slots__}
    document = settings_document({**row, "locations": [location_names[id_] for id_ in settings.location_ids]})
    del document["key"]
    options = {**_option_defaults(settings.type), **document.get(settings.type, {})}
    document[settings.type] = _hide(options, settings.secrets, settings.type)
    document["assertions"] = [
        {"value": None, **_defaults(AssertionIn), **assertion} for assertion in settings.assertions
    ]
    return document


def shown(value: Any) -> Any:
    """A part of complete settings as it may be shown."""
    if isinstance(value, Hidden):
        return KEPT
    if isinstance(value, Mapping):
        return {name: shown(part) for name, part in value.items()}
    return [shown(part) for part in value] if isinstance(value, list) else value


def revealed(value: Any) -> Any:
    """The same for our own eyes: with the secrets themselves."""
    if isinstance(value, Hidden):
        return {"secret": value.value}
    if isinstance(value, Mapping):
        return {name: revealed(part) for name, part in value.items()}
    return [revealed(part) for part in value] if isinstance(value, list) else value


def written(row: Mapping[str, Any], secrets: Mapping[str, str], own_location: str) -> Document:
    """A stored monitor as a person would write it: without what is the default, secrets as {"secret": null}.

    `secrets` are its opened ones.
    """
    document = settings_document(row)
    defaults = {
        **_defaults(MonitorIn),
        "timeout_seconds": min(10, document["interval_seconds"]),
        "locations": [own_location],
        **_DEFAULTS_OF.get(row["type"], {}),
    }
    options = _hide(document.pop(row["type"], {}), secrets, row["type"])
    own = {name: value for name, value in document.items() if name not in defaults or value != defaults[name]}
    if "labels" in own:
        own["labels"] = dict(sorted(own["labels"].items()))
    if "assertions" in own:
        own["assertions"] = [_assertion(assertion) for assertion in own["assertions"]]
    if set_options := _options(options, row["type"]):
        own[row["type"]] = set_options
    return {name: own[name] for name in MonitorIn.model_fields if name in own}


def _assertion(stored: Mapping[str, Any]) -> Document:
    defaults = {"value": None, **_defaults(AssertionIn)}
    return {
        name: stored[name]
        for name in AssertionIn.model_fields
        if name in stored and (name not in defaults or stored[name] != defaults[name])
    }


def _options(options: Mapping[str, Any], type_: str) -> Document:
    defaults = _option_defaults(type_)
    own = {name: value for name, value in options.items() if name not in defaults or value != defaults[name]}
    return {name: _written_option(value) for name, value in sorted(own.items())}


def _written_option(value: Any) -> Any:
    """Members of an option are null only where a secret is stored, be it one that does not open any more."""
    if not isinstance(value, Mapping):
        return shown(value)
    return {name: KEPT if part is None else shown(part) for name, part in sorted(value.items())}


def _hide(value: Any, secrets: Mapping[str, str], path: str) -> Any:
    if value is None and path in secrets:
        return Hidden(secrets[path])
    if isinstance(value, Mapping):
        return {name: _hide(part, secrets, f"{path}.{name}") for name, part in value.items()}
    return value


@cache
def _defaults(model: type[BaseModel]) -> Document:
    """The fields of a model that need not be given."""
    return {
        name: field.get_default(call_default_factory=True)
        for name, field in model.model_fields.items()
        if field.get_default(call_default_factory=True) is not PydanticUndefined
    }


def _option_defaults(type_: str) -> Document:
    """What a monitor of this type is set to where nothing is said."""
    field = MonitorIn.model_fields.get(type_)
    models = [part for part in get_args(field.annotation) if isinstance(part, type)] if field else []
    return next((_defaults(model) for model in models if issubclass(model, BaseModel)), {})
