"""What one step of the scheduler does at most, so that nothing keeps all else waiting."""

from __future__ import annotations

from typing import Final

__all__ = ["DELIVERIES", "NEVER_NS", "TRANSACTIONS"]

#: reports of each outbox in one transaction; deliveries handed out; rows of removed endpoints given up
DELIVERIES: Final = 1024
#: windows that are closed, and endpoints that are disabled: a transaction for each; arbitrary
TRANSACTIONS: Final = 64
#: later than any time
NEVER_NS: Final = 2**63 - 1
