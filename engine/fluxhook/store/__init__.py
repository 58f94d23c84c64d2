"""The SQLite store: what waits for an attempt, dead letters, attempts, the scheduler's positions."""

from fluxhook.store.database import StoreDamaged
from fluxhook.store.deliveries import DeliveryStore
from fluxhook.store.interface import Store, StoreError, Transaction
from fluxhook.store.reader import ReadStore
from fluxhook.store.rows import DeliveryRow, Due, EndpointRow, PastAttempt, State, SubscriptionRow
from fluxhook.store.transaction import DeliveryTransaction

__all__ = [
    "DeliveryRow",
    "DeliveryStore",
    "DeliveryTransaction",
    "Due",
    "EndpointRow",
    "PastAttempt",
    "ReadStore",
    "State",
    "Store",
    "StoreDamaged",
    "StoreError",
    "SubscriptionRow",
    "Transaction",
]
