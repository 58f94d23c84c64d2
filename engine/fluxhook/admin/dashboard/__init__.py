"""The dashboard: pages of NiceGUI over the functions that the API has, in the same server.

It holds no data but the last minutes' samples of the counters, and those only while somebody looks.
"""

from fluxhook.admin.dashboard.app import create_dashboard

__all__ = ["create_dashboard"]
