"""The SQLite store: what waits for an attempt, dead letters, attempts, the scheduler's positions."""

from fluxhook.store.batch import Batch
from fluxhook.store.database import StoreDamaged
from fluxhook.store.deliveries import DeliveryStore
from fluxhook.store.interface import Store, StoreError, Transaction
from fluxhook.store.reader import ReadStore
from fluxhook.store.rows import Delivery, Due, EndpointRow, PastAttempt, State, SubscriptionRow

__all__ = [
    "Batch",
    "Delivery",
    "DeliveryStore",
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
