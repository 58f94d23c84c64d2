"""The decisions, pure: no clock, socket or random number; time and chance come in as numbers."""
