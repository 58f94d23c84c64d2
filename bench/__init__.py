"""The benchmarks of Fluxhook: `python -m bench`. See bench/README.md."""
