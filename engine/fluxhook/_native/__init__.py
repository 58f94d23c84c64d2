"""The compiled hot path. Only bytes, integers and buffers cross this border."""
