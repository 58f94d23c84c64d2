"""The engine's administration: a REST API, metrics, and the seam for a dashboard, in one process.

It reads the store and the shared counters, and asks the supervisor for every change; its overload
cannot slow a delivery.
"""
