"""The node in a process of its own, with the stand-in network; ROS arguments go on to the node."""

import argparse
import atexit
import sys
import time
from pathlib import Path


def main() -> int:
    """Run the node; --load-time, --delay and --hands shape the stand-in."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--load-time", type=float, default=0.0, help="seconds that loading takes")
    parser.add_argument("--delay", type=float, default=0.0, help="seconds that a picture takes")
    parser.add_argument(
        "--hands", type=int, default=None, help="hands in each picture; else discs are sought"
    )
    parser.add_argument("--looks-twice", action="store_true", help="at every hand")
    parser.add_argument("--full-mesh", action="store_true", help="with the shipped hand model's vertices")
    parser.add_argument("--say-drawn", action="store_true", help="print a line whenever an overlay is drawn")
    parser.add_argument("--hang-at-exit", action="store_true", help="as a library with a stuck thread does")
    options, rest = parser.parse_known_args()
    sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

    from handos_ros.hand_model.model import load_hand_model
    from handos_ros.inference.loading import set_long_side
    from handos_ros.network.config import SecondLookConfig
    from handos_ros.ros.node import main as run_node
    from standin import standin_pipeline

    if options.hang_at_exit:
        atexit.register(time.sleep, 20)
    if options.say_drawn:
        import handos_ros.drawing.overlay as overlay

        draw = overlay.draw_hands

        def say_and_draw(*args, **kwargs):
            print("overlay drawn", flush=True)
            return draw(*args, **kwargs)

        overlay.draw_hands = say_and_draw

    def factory(model, *, min_score, max_hands, long_side, **_):
        time.sleep(options.load_time)
        pipeline = standin_pipeline(
            delay=options.delay,
            hands=options.hands,
            hand_model=load_hand_model() if options.full_mesh else None,
            min_score=min_score,
            max_hands=max_hands,
        )
        set_long_side(pipeline.backend, long_side)
        if options.looks_twice:
            pipeline.backend.second_look = SecondLookConfig(below=1000, above=1001, size=90, cell=160)
        return pipeline

    return run_node([sys.argv[0], *rest], factory)


if __name__ == "__main__":
    sys.exit(main())
