"""Entries of the commands: garbage collection goes off before the first big import.

The imports of a start make no garbage worth collecting, and looking for it takes them about 2 ms of CPU time; soon
afterwards the process is another program. Verbs that stay turn it on again (`main`). Nothing but `gc` may be imported
here at the top.
"""

import gc


def septum() -> None:
    """The command ``septum``; does not return."""
    gc.disable()
    from septum.cli.main import main

    main()


def septum_qemu() -> None:
    """The command ``septum-qemu``; does not return."""
    gc.disable()
    from septum.cli.interpose import main

    main()
