"""``python -m septum``: the same as the command ``septum``."""

from septum.cli.main import main

if __name__ == "__main__":
    main()
