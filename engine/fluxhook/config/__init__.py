"""The configuration: its shape, the units it is written in, and how a file becomes one."""
