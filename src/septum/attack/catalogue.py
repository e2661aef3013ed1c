"""Everything that is tried, in the order of the table."""

from collections.abc import Iterator

from septum.attack import on_channels, on_confinement, on_files, on_kernel, on_processes
from septum.attack.judge import Predictor
from septum.attack.model import Attempt
from septum.attack.stage import Stage


def attempts(stage: Stage, judge: Predictor) -> Iterator[Attempt]:
    """All attempts on a stage. The same stage gives the same attempts in the same order.

    Args:
        stage: what there is to attack.
        judge: says what is expected.
    """
    yield from on_files.controls(stage, judge)
    yield from on_files.of_other_guests(stage, judge)
    yield from on_channels.of_other_guests(stage, judge)
    yield from on_processes.of_others(stage, judge)
    yield from on_channels.of_the_host(stage, judge)
    yield from on_files.devices(stage, judge)
    yield from on_files.of_the_host(stage, judge)
    yield from on_files.of_septum(stage, judge)
    yield from on_kernel.calls(stage, judge)
    yield from on_confinement.itself(stage, judge)
