"""Moving bytes: the rings between processes and HTTP to the endpoints."""
