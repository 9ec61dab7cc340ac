"""What the demo keeps of a stream. The demo as a whole, which needs ROS: see `test_demo`."""

import sys
from pathlib import Path

import numpy as np
import pytest
from bag_makers import START, raw

from handos_ros.errors import DataError
from handos_ros.files.image_messages import decode_image
from handos_ros.files.videos import VideoFile

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "demo"))
from recording import Recording


def play(recording: Recording, numbers: range) -> None:
    for number in numbers:
        recording.sent(START + number, 0.0)
        recording.overlaid(START + number, raw(number, START + number))


@pytest.mark.parametrize("rate", [25.0, 239.813])
def test_a_video_of_slow_motion_plays_as_long_as_it_took(tmp_path, rate):
    recording = Recording(tmp_path, rate)
    play(recording, range(40))
    recording.finish()
    file = VideoFile(recording.video)
    assert file.count == 40 and file.rate == pytest.approx(rate, rel=1e-3)
    first = file.read().image
    file.close()
    assert np.abs(first.astype(int) - decode_image(raw(0, START))).mean() < 10
    assert not list(tmp_path.glob(".*"))


def test_a_video_that_cannot_be_written_is_named(tmp_path):
    folder = tmp_path / "output"
    recording = Recording(folder, 25.0)
    (folder / ".overlay.part.mp4").mkdir()  # in its way
    with pytest.raises(DataError, match=r"overlay\.mp4: OpenCV cannot write"):
        play(recording, range(1))
    recording.finish()  # and this is no error besides
    assert not recording.video.exists()
