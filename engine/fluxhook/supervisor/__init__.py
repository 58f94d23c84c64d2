"""The supervisor process: prepares the data directory, starts the others, and answers for changes."""
