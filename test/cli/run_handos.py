"""`handos` with the stand-in network: `python run_handos.py [--delay S] [--hands N] COMMAND ...`."""

import argparse
import sys
from pathlib import Path

for folder in Path(__file__).resolve().parents[1:3]:
    sys.path.insert(0, str(folder))

from handos_ros.cli import common, main  # noqa: E402

if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--delay", type=float, default=0.0)
    parser.add_argument("--hands", type=int)
    options, words = parser.parse_known_args(sys.argv[1 : sys.argv.index("--")])
    words = sys.argv[sys.argv.index("--") + 1 :]

    def load_pipeline(args):
        from standin import standin_pipeline

        thresholds = {name: common.model_options(args)[name] for name in ("min_score", "max_hands")}
        return standin_pipeline(delay=options.delay, hands=options.hands, **thresholds)

    common.load_pipeline = load_pipeline
    sys.exit(main.main(words))
