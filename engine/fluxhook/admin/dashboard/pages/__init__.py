"""One file per page; each has `register`, which adds the page to NiceGUI."""
