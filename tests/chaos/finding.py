"""What the check of one invariant found."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass(slots=True)
class Finding:
    """`applicable`: how often there was something to check. `lost` are the violations that lost something.

    `explained`: what looked odd and why it is allowed.
    """

    applicable: int = 0
    violations: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    explained: list[str] = field(default_factory=list)

    def break_(self, said: str, *, lost: bool = False) -> None:
        """Note a violation."""
        self.violations.append(said)
        if lost:
            self.lost.append(said)
