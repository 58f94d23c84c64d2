"""The SQLite store: what waits for an attempt, dead letters, attempts, the scheduler's positions."""

from fluxhook.store.batch import Batch
from fluxhook.store.database import StoreDamaged, StoreError
from fluxhook.store.deliveries import DeliveryStore
from fluxhook.store.reader import ReadStore
from fluxhook.store.records import Delivery, Due, EndpointRow, PastAttempt, State, SubscriptionRow

__all__ = [
    "Batch",
    "Delivery",
    "DeliveryStore",
    "Due",
    "EndpointRow",
    "PastAttempt",
    "ReadStore",
    "State",
    "StoreDamaged",
    "StoreError",
    "SubscriptionRow",
]
