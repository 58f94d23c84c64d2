"""The dashboard: pages of NiceGUI over the functions that the API has, in the same server.

It holds no data of its own.
"""

from fluxhook.admin.dashboard.app import create_dashboard

__all__ = ["create_dashboard"]
