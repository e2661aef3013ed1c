"""Puts a declaration in force: realms' rows and codes, the policy that it becomes, and which doors are open."""

from septum.enact.apply import Enacted, Enactor, in_force, nothing
from septum.enact.places import Kernel, Place, Standalone

__all__ = ["Enacted", "Enactor", "Kernel", "Place", "Standalone", "in_force", "nothing"]
