"""Regular expressions by RE2: linear in time and bounded in memory, whatever a tenant writes."""

from __future__ import annotations

from typing import Any

import re2

_PATTERN_MEMORY_BYTES = 4 * 1024 * 1024


def pattern_of(text: str) -> Any:
    """Compile with RE2. Raises re2.error, whose argument is RE2's own explanation."""
    options = re2.Options()
    options.max_mem = _PATTERN_MEMORY_BYTES
    options.log_errors = False
    return re2.compile(text, options)
