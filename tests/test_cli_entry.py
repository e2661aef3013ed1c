"""How the commands come up: nothing big is loaded while garbage is collected, and verbs that stay collect it."""

import subprocess
import sys


def told(code: str, *words: str) -> str:
    done = subprocess.run([sys.executable, "-I", "-S", "-c", code, *words], capture_output=True, text=True, check=True)
    return done.stdout.strip()


PATH = f"import sys; sys.path.insert(0, {__file__.rsplit('/tests/', 1)[0] + '/src'!r}); "


def test_the_entry_loads_next_to_nothing() -> None:
    loaded = told(PATH + "import septum.cli.entry; print(*sorted(set(sys.modules) & {'typing', 're', 'collections'}))")
    assert loaded == ""


CALL = PATH + (
    "import gc, types; import septum.cli.entry as entry; "
    "main = sys.modules['septum.cli.{0}'] = types.ModuleType('main'); "
    "main.main = lambda: print(gc.isenabled()); entry.{1}()"
)


def test_no_garbage_is_collected_from_the_start_on() -> None:
    assert told(CALL.format("main", "septum")) == "False"
    assert told(CALL.format("interpose", "septum_qemu")) == "False"


VERB = PATH + (
    "import gc; from septum.cli import main; gc.disable(); "
    "main.verb = lambda name: type('V', (), dict(HELP='', arguments=lambda parser: None, "
    "run=lambda options: print(gc.isenabled()) or 0)); main.main([{0!r}])"
)


def test_verbs_that_stay_collect_garbage() -> None:
    assert told(VERB.format("ps")) == "True"
    assert told(VERB.format("run")) == "False"
