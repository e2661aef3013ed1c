"""The carrier stream: the conformance suite, with the two ends on one pair and with a relay between them."""

import pytest

from septum.ivc import StreamCarrier
from tests.ivc_conformance import CarrierConformance


class TestStream(CarrierConformance):
    @pytest.fixture
    def carrier(self) -> StreamCarrier:
        return StreamCarrier()
