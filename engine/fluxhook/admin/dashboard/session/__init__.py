"""Who looks at a page: logins, sessions, and what the guard lets through."""
