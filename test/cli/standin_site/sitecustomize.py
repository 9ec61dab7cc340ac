"""On PYTHONPATH, makes every Python process load the stand-in network: also those that a command starts.

HANDOS_TEST_DELAY is the seconds that it takes for a picture, HANDOS_TEST_HANDS how many hands it sees in
each (unset: those that are drawn).
"""

import importlib.abc
import importlib.util
import os
import sys

_NAME = "handos_ros.inference.pipeline"


class _Finder(importlib.abc.MetaPathFinder):
    """Waits for the pipeline's module, so that Python itself starts as fast as ever."""

    def find_spec(self, name, path=None, target=None):
        if name != _NAME:
            return None
        sys.meta_path.remove(self)
        spec = importlib.util.find_spec(_NAME)
        execute = spec.loader.exec_module

        def exec_module(module):
            execute(module)
            module.Pipeline.load = classmethod(_load)

        spec.loader.exec_module = exec_module
        return spec


def _load(cls, *_, min_score=0.5, max_hands=10, **__):
    from standin import standin_pipeline

    hands = os.environ.get("HANDOS_TEST_HANDS")
    return standin_pipeline(
        delay=float(os.environ.get("HANDOS_TEST_DELAY", "0")),
        hands=int(hands) if hands else None,
        min_score=min_score,
        max_hands=max_hands,
    )


sys.meta_path.insert(0, _Finder())
