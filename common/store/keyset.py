"""Where a list that is read newest first begins."""

from __future__ import annotations

#: (time, id) before which everything lies. A bound that is always there can be an index condition; "no bound, or
#: before it" never is, and the hundredth page would read the ninety-nine before it.
BEGINNING = ("infinity", "ffffffff-ffff-ffff-ffff-ffffffffffff")
