"""What all tests of the gateway use."""

from tests.unit.gateway.rig import rig

__all__ = ["rig"]
