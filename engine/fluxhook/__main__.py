"""`python -m fluxhook`: the same as the command `fluxhook`."""

from fluxhook.cli import main

if __name__ == "__main__":
    main()
