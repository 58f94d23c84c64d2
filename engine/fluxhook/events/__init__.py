"""Events: their names and ids, the two catalogs, and the envelopes they are sent in."""
