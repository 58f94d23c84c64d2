"""A worker process: takes events from its rings, sends them, and settles or reports what came of it."""
