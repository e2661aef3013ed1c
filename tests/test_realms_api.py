"""The names that other programs may rely on. A change here is one for them."""

import septum.api
import septum.client
import septum.realms


def test_public_names_are_pinned() -> None:
    assert septum.api.__all__ == ["ROUTES", "Bounds", "Call", "Front", "Route", "describe"]
    assert septum.client.__all__ == [
        "Client", "Device", "Door", "Event", "Evidence", "Guest", "Image", "Me", "Operation", "Realm", "Snapshot",
    ]  # fmt: skip
    assert septum.realms.__all__ == [
        "Caller", "Core", "Decider", "Launcher", "Once", "Performer", "Place", "SeptumRun", "Turns", "absent",
        "connect", "evidence", "of_devices", "of_doors", "of_guests", "of_images", "of_realms", "of_snapshots", "sweep",
    ]  # fmt: skip


def test_verbs_have_names_of_their_own() -> None:
    names = [route.name for route in septum.api.ROUTES]
    assert len(names) == len(set(names)) == 41
    assert len({(route.method, route.path) for route in septum.api.ROUTES}) == len(names)
