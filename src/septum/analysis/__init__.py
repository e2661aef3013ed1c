"""What the composed policies really allow: snapshots, flows, goals, proofs, differences.

Pure but for reading files: everything is asked of a snapshot. `septum.analysis.collect` takes one of a live host.
"""

from septum.analysis.directions import Directions, Way, directions, ways
from septum.analysis.flows import Edge, Flows, Hop
from septum.analysis.goals import Goal, Goals, Result, Trust, check, parse
from septum.analysis.reach import Reach, closure, way
from septum.analysis.snapshot import Channel, Instance, PolicyFile, Snapshot, dump, load, read, snapshot_hash

__all__ = [
    "Channel",
    "Directions",
    "Edge",
    "Flows",
    "Goal",
    "Goals",
    "Hop",
    "Instance",
    "PolicyFile",
    "Reach",
    "Result",
    "Snapshot",
    "Trust",
    "Way",
    "check",
    "closure",
    "directions",
    "dump",
    "load",
    "parse",
    "read",
    "snapshot_hash",
    "way",
    "ways",
]
