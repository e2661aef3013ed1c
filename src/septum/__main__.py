"""``python -m septum``: the same as the command ``septum``."""

from septum.cli.entry import septum

if __name__ == "__main__":
    septum()
