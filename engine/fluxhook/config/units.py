"""Durations, sizes and rates as the configuration writes them."""

from __future__ import annotations
