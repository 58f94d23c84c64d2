"""What processes share: files, rings by name, records, the libcurl sender, the processes themselves."""
