"""What a host program holds: it routes events into the rings of the workers, and does no I/O."""
