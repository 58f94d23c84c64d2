"""What the engine says in its log: loggers, fields, formats, and how much at most."""
