"""What can go wrong with a local OSS when it is asked to."""

from __future__ import annotations

from dataclasses import dataclass

FAULT_KINDS = {
    "delay": "the answer comes `seconds` late",
    "error": "HTTP `status` with the error code `code` instead of doing it",
    "reset": "the connection is reset before it is done",
    "reset_after": "the connection is reset after it was done",
    "late_listing": "listings show new files `seconds` late, from now on",
}


@dataclass
class FaultRule:
    """Something that goes wrong.

    :param operation: such as ``PutObject``; None for all.
    :param every: strikes every n-th request that it looks at, after ``skip``, and at most ``times``.
    """

    kind: str
    operation: str | None = None
    every: int = 1
    skip: int = 0
    times: int | None = None
    seconds: float = 1.0
    status: int = 503
    code: str = "ServiceUnavailable"
    seen: int = 0
    struck: int = 0

    def strikes(self, operation: str) -> bool:
        """Count a request, and tell whether it meets the fault."""
        if self.operation not in (None, operation) or self.struck == self.times:
            return False
        self.seen += 1
        if self.seen <= self.skip or (self.seen - self.skip) % self.every:
            return False
        self.struck += 1
        return True
