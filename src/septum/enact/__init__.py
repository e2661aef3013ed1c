"""Puts a declaration in force: realms' rows and codes, the policy that it becomes, and which doors are open."""

from septum.enact.apply import Enacted, Enactor, in_force, nothing

__all__ = ["Enacted", "Enactor", "in_force", "nothing"]
