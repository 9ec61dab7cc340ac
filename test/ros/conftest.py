"""The rig that the tests of the node share; without a ROS 2 they skip, with a reason."""

import os

import pytest


@pytest.fixture
def rig(tmp_path):
    """A `Rig` of the test's own, its node not yet started."""
    # The test's own side of DDS reads these when its context is made.
    os.environ["ROS_AUTOMATIC_DISCOVERY_RANGE"] = "LOCALHOST"
    from ros.rig import Rig

    rig = Rig(tmp_path)
    yield rig
    rig.close()
