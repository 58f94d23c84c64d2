"""The processes: publisher, worker, keeper, supervisor, and the engine that holds them together."""
