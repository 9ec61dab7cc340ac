"""One small generator for all tests here: painting its skins takes seconds."""

import pytest

from handos_ros.learning.synthesis.generator import SynthesisConfig, SyntheticHands


@pytest.fixture(scope="session")
def synthetic():
    return SyntheticHands(SynthesisConfig(sizes=((160, 160), (192, 128), (128, 192))), seed=11)
