"""The engine against nginx, beside the bare pycurl loop: `python -m bench.e2e`."""
