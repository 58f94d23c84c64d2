"""What runs as a process of its own: hosts, contenders, receivers, and a load generator."""
