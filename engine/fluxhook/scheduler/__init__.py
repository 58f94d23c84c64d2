"""The one writer of the store: takes reports in, and hands out what has to be tried again."""
