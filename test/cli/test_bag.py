"""`handos bag` as a user runs it: processes, signals, full disks, many bags, tables."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import cv2
import numpy as np
import pytest
from bag_makers import START, STEP, T, camera_info, default_messages, jpeg, raw, write_bag
from rosbags.highlevel import AnyReader

from standin import draw_disc

HANDS = "/handos/cam/hands"
REPOSITORY = Path(__file__).resolve().parents[2]


def environment(**variables: str) -> dict[str, str]:
    folders = [REPOSITORY / "test" / "cli" / "standin_site", REPOSITORY, REPOSITORY / "test"]
    paths = [str(folder) for folder in folders] + [os.environ.get("PYTHONPATH", "")]
    return {**os.environ, "PYTHONPATH": os.pathsep.join(paths), "OMP_NUM_THREADS": "1", **variables}


def command(*words: object) -> list[str]:
    return [sys.executable, "-m", "handos_ros.cli.main", "bag", *map(str, words)]


def bag(*words: object, **variables: str) -> subprocess.CompletedProcess:
    result = subprocess.run(
        command(*words), capture_output=True, text=True, timeout=100, env=environment(**variables)
    )
    assert "Traceback" not in result.stderr, result.stderr
    return result


def messages(path: Path) -> list[tuple[str, int, object]]:
    with AnyReader([path]) as reader:
        return [
            (connection.topic, stamp, reader.deserialize(data, connection.msgtype))
            for connection, stamp, data in reader.messages()
        ]


def without_time(path: Path) -> list[str]:
    """All messages, without how long the network took."""
    result = []
    for topic, stamp, message in messages(path):
        if topic.endswith("/hands"):
            message.processing_time.sec = message.processing_time.nanosec = 0
        result.append(f"{topic} {stamp} {message!r}")
    return result


def test_a_bag(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    result = bag(source, "-o", tmp_path / "out", "--table", tmp_path / "hands.csv")
    assert result.returncode == 0, result.stderr
    assert "12 pictures, 20 hands" in result.stdout and "20 hands -> " in result.stdout
    assert len([m for m in messages(tmp_path / "out") if m[0] == HANDS]) == 12
    assert len((tmp_path / "hands.csv").read_text().splitlines()) == 21


@pytest.mark.parametrize(
    ("words", "hands"), [((), 5), (("--keep-score", "0.5"), 2)], ids=["by default", "one threshold"]
)
def test_a_hand_that_becomes_unsure_stays(tmp_path: Path, words: tuple, hands: int) -> None:
    pictures = []
    for i in range(6):
        picture = draw_disc(np.zeros((240, 320, 3), np.uint8), (160, 120), 80, dim=i not in (1, 3))
        data = cv2.imencode(".jpg", picture[..., ::-1])[1].reshape(-1)
        stamp = START + i * STEP
        pictures.append(("/cam/image_raw/compressed", stamp, jpeg(i, stamp, data=data)))
    source = write_bag(tmp_path / "in", pictures)
    result = bag(source, "-o", tmp_path / "out", *words)
    assert result.returncode == 0, result.stderr
    assert f"6 pictures, {hands} hands" in result.stdout


def test_the_real_clip(tmp_path: Path, shared_data: Path) -> None:
    source = shared_data / "bags" / "hand_clip_jpeg_mcap"
    if not source.is_dir():
        pytest.skip(f"no {source}")
    result = bag(source, "-o", tmp_path / "out", HANDOS_TEST_HANDS="2")
    assert result.returncode == 0, result.stderr
    found = [m for topic, _, m in messages(tmp_path / "out") if topic == "/handos/camera/color/hands"]
    assert len(found) == 202 and all(len(m.hands) == 2 and m.k[0] == 640 for m in found)


def test_topics_that_are_not_there(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    result = bag(source, "-o", tmp_path / "out", "--topic", "/camera/image")
    assert result.returncode == 1
    assert "/camera/image" in result.stderr and "/cam/image_raw/compressed" in result.stderr
    assert not (tmp_path / "out").exists() and not (tmp_path / "out.partial").exists()

    # The rest of the work is done.
    words = [source, "-o", tmp_path / "out", "--topic", "/nope", "--topic", "/cam/image_raw/compressed"]
    result = bag(*words, "--keep", "/mood", "--keep", "/speed")
    assert result.returncode == 1
    assert "no topic /nope" in result.stderr and "no topic /speed to keep" in result.stderr
    assert {topic for topic, _, _ in messages(tmp_path / "out")} >= {HANDS, "/mood"}

    result = bag(source, "-o", tmp_path / "other", "--topic", "/mood")
    assert result.returncode == 1 and "holds my_robot/msg/Mood, no pictures" in result.stderr


def test_several_topics_are_listed(tmp_path: Path) -> None:
    both = [("/a/image_raw", START, raw(0, START)), ("/b/image_raw", START, raw(1, START))]
    source = write_bag(tmp_path / "in", both)
    result = bag(source, "-o", tmp_path / "out")
    assert result.returncode == 1
    assert re.search(r"--topic.*\n  /a/image_raw  \(Image, 1 messages\)\n  /b/image_raw", result.stderr)
    words = ["--topic", "/a/image_raw", "--topic", "/b/image_raw"]
    result = bag(source, "-o", tmp_path / "out", *words)
    assert result.returncode == 0, result.stderr
    assert {t for t, _, _ in messages(tmp_path / "out")} >= {"/handos/a/hands", "/handos/b/hands"}


def test_bad_input_is_named_and_the_rest_done(tmp_path: Path) -> None:
    bad = default_messages(8)
    bad[3] = (bad[3][0], bad[3][1], jpeg(1, START + STEP, data=np.zeros(50, np.uint8)))
    bad = [(t, s, camera_info(s, 0) if "info" in t else m) for t, s, m in bad]
    first = write_bag(tmp_path / "first", bad)
    second = write_bag(tmp_path / "second", default_messages(200), storage="sqlite3")
    file = second / "second.db3"
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
    third = write_bag(tmp_path / "third")
    result = bag(first, second, tmp_path / "nowhere", third, "-o", tmp_path / "out")
    assert result.returncode == 1
    for words in [
        f"{first}: /cam/image_raw/compressed at 1700000000.043000000: compressed picture",
        "never calibrated",
        f"{second}: second.db3 is damaged",
        f"{tmp_path / 'nowhere'}: no such bag",
    ]:
        assert words in result.stderr
    assert len([m for m in messages(tmp_path / "out" / "first") if m[0] == HANDS]) == 7
    assert 40 < len([m for m in messages(tmp_path / "out" / "second") if m[0] == HANDS]) < 150
    assert len([m for m in messages(tmp_path / "out" / "third") if m[0] == HANDS]) == 12
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["first", "second", "third"]


def test_what_the_system_refuses_to_show_is_named_and_the_rest_done(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 300)
    unreadable = tmp_path / "disk"
    unreadable.mkdir()
    (unreadable / "disk_0.mcap").symlink_to("/proc/self/mem")  # reads as a broken disk does
    good = write_bag(tmp_path / "good")
    result = bag(long, unreadable, good, "-o", tmp_path / "out", "--table", tmp_path / "hands.csv")
    assert result.returncode == 1
    assert f"{long}: " in result.stderr and "File name too long" in result.stderr
    assert f"{unreadable / 'disk_0.mcap'}: cannot be read or unpacked: " in result.stderr
    assert len([m for m in messages(tmp_path / "out" / "good") if m[0] == HANDS]) == 12

    # A name that is as long as names may be leaves no room for .partial.
    result = bag(good, "-o", tmp_path / ("y" * 250))
    assert result.returncode == 1 and f"{tmp_path / ('y' * 250)}: cannot be written: File" in result.stderr
    result = bag(good, "--table", tmp_path / ("y" * 246 + ".csv"))
    assert result.returncode == 1 and "File name too long" in result.stderr


def test_outputs_that_are_there(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    assert bag(source, "-o", tmp_path / "out").returncode == 0
    result = bag(source, "-o", tmp_path / "out")
    assert result.returncode == 1 and "is there already" in result.stderr and "--overwrite" in result.stderr
    assert bag(source, "-o", tmp_path / "out", "--overwrite", "--no-mesh").returncode == 0
    (tmp_path / "hands.csv").write_text("mine")
    result = bag(source, "-o", tmp_path / "new", "--table", tmp_path / "hands.csv")
    assert result.returncode == 1 and "hands.csv" in result.stderr
    assert (tmp_path / "hands.csv").read_text() == "mine" and not (tmp_path / "new").exists()
    result = bag(source, "-o", source)
    assert result.returncode == 1 and "another bag than the input" in result.stderr


def interrupt(words: list[object], when: Path, number: int = signal.SIGINT) -> tuple[int, str]:
    """Start, send a signal some time after `when` appeared, and wait for the end."""
    process = subprocess.Popen(
        command(*words), stderr=subprocess.PIPE, text=True, env=environment(HANDOS_TEST_DELAY="0.05")
    )
    deadline = time.monotonic() + 60
    while not when.exists() and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    time.sleep(0.5)
    process.send_signal(number)
    _, errors = process.communicate(timeout=60)
    assert "Traceback" not in errors, errors
    return process.returncode, errors


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_ctrl_c_and_resume(tmp_path: Path, number: int) -> None:
    source = write_bag(tmp_path / "in", default_messages(60), storage="sqlite3")
    assert bag(source, "-o", tmp_path / "whole").returncode == 0
    words = [source, "-o", tmp_path / "out", "--table", tmp_path / "hands.parquet"]
    status, errors = interrupt(words, tmp_path / "out.partial", number)
    assert status == 130 and "--resume" in errors
    assert not (tmp_path / "out").exists() and not (tmp_path / "hands.parquet").exists()
    done = without_time(tmp_path / "out.partial")
    assert 5 < len(done) < 300
    import pandas

    partial = pandas.read_parquet(tmp_path / "hands.partial.parquet")
    assert 0 < len(partial) < 96

    assert bag(*words).returncode == 1  # unfinished, and nobody said what to do with it
    assert bag(*words, "--resume").returncode == 0
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()
    table = pandas.read_parquet(tmp_path / "hands.parquet")
    assert len(table) == 96
    pandas.testing.assert_frame_equal(table.iloc[: len(partial)], partial)


def test_killed_outright_it_goes_on_after_the_last_finished_part(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", default_messages(60))
    script = (
        "import handos_ros.files.bags_writing as w, sys\n"
        "from handos_ros.cli.main import main\n"
        "original = w.BagWriter.__init__\n"
        "def small(self, *a, **k): original(self, *a, **{**k, 'part_bytes': 60_000})\n"
        "w.BagWriter.__init__ = small\n"
        "sys.exit(main(sys.argv[1:]))\n"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script, "bag", str(source), "-o", str(tmp_path / "out")],
        env=environment(HANDOS_TEST_DELAY="0.05"),
    )
    deadline = time.monotonic() + 60
    while not (tmp_path / "out.partial" / "out_2.mcap").exists() and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert len(messages(tmp_path / "out.partial")) > 10
    assert bag(source, "-o", tmp_path / "out", "--resume").returncode == 0
    assert bag(source, "-o", tmp_path / "whole").returncode == 0
    assert without_time(tmp_path / "out") == without_time(tmp_path / "whole")


def test_two_at_once_do_not_mix(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", default_messages(60))
    first = subprocess.Popen(
        command(source, "-o", tmp_path / "out"), env=environment(HANDOS_TEST_DELAY="0.05")
    )
    while not (tmp_path / "out.partial").exists():
        time.sleep(0.02)
    second = bag(source, "-o", tmp_path / "out", "--resume")
    assert second.returncode == 1 and "another process" in second.stderr
    assert first.wait(60) == 0
    assert len([m for m in messages(tmp_path / "out") if m[0] == HANDS]) == 60


@pytest.mark.parametrize("storage", ["mcap", "sqlite3"])
def test_a_full_disk(tmp_path: Path, storage: str) -> None:
    disk = tmp_path / "disk"
    disk.mkdir()
    if subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", disk], capture_output=True
    ).returncode:
        pytest.skip("no small disk to fill: mounting one needs more rights")
    try:
        noise = np.random.default_rng(0).integers(0, 255, 40_000, dtype=np.uint8)
        many = default_messages(100)
        many += [(f"/noise{i % 3}", START + i, T["sensor_msgs/msg/CompressedImage"](
            jpeg(0, START).header, "noise", noise)) for i in range(100)]  # fmt: skip
        source = write_bag(tmp_path / "in", many, storage=storage)
        result = bag(source, "-o", disk / "out", "--topic", "/cam/image_raw/compressed")
        assert result.returncode == 1
        assert f"{disk / 'out'}: cannot be written: " in result.stderr
        assert "No space left" in result.stderr or "full" in result.stderr
        assert list(disk.iterdir()) == []
    finally:
        subprocess.run(["umount", disk], check=True)


def test_a_folder_that_cannot_be_written(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    (tmp_path / "file").write_text("not a folder")
    result = bag(source, "-o", tmp_path / "file" / "out")
    assert result.returncode == 1 and f"{tmp_path / 'file' / 'out'}: cannot be written" in result.stderr


def test_many_bags_at_once(tmp_path: Path) -> None:
    sources = [write_bag(tmp_path / f"bag{i}", default_messages(10, first=10 * i)) for i in range(3)]
    result = bag(*sources, "-o", tmp_path / "turn", "--table", tmp_path / "turn.csv")
    assert result.returncode == 0, result.stderr
    words = [*sources, "-o", tmp_path / "once", "--table", tmp_path / "once.csv", "--jobs", 2]
    result = bag(*words)
    assert result.returncode == 0, result.stderr
    for source in sources:
        assert str(source) in result.stdout
        assert without_time(tmp_path / "once" / source.name) == without_time(tmp_path / "turn" / source.name)
    assert (tmp_path / "once.csv").read_text() == (tmp_path / "turn.csv").read_text()


def test_ctrl_c_reaches_every_job(tmp_path: Path) -> None:
    sources = [write_bag(tmp_path / f"bag{i}", default_messages(80)) for i in range(3)]
    words = [*sources, "-o", tmp_path / "out", "--jobs", 2]
    status, _ = interrupt(words, tmp_path / "out" / "bag1.partial")
    assert status == 130
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bag0.partial", "bag1.partial"]
    assert messages(tmp_path / "out" / "bag0.partial") and messages(tmp_path / "out" / "bag1.partial")
    result = bag(*words, "--resume")
    assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["bag0", "bag1", "bag2"]
    assert len({tuple(t for t, _, _ in messages(tmp_path / "out" / f"bag{i}")) for i in range(3)}) == 1


def test_a_terminal_that_goes_leaves_every_job_resumable(tmp_path: Path) -> None:
    """Its end reaches all processes of the command, not the first alone."""
    sources = [write_bag(tmp_path / f"bag{i}", default_messages(80)) for i in range(2)]
    words = [*sources, "-o", tmp_path / "out", "--jobs", 2]
    process = subprocess.Popen(
        command(*words),
        stderr=subprocess.PIPE,
        text=True,
        env=environment(HANDOS_TEST_DELAY="0.05"),
        start_new_session=True,
    )
    partial = [tmp_path / "out" / f"bag{i}.partial" for i in range(2)]
    deadline = time.monotonic() + 60
    while not all(path.exists() for path in partial) and time.monotonic() < deadline:
        assert process.poll() is None, process.stderr.read()
        time.sleep(0.02)
    time.sleep(0.5)
    os.killpg(process.pid, signal.SIGHUP)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130 and "--resume" in errors and "Traceback" not in errors, errors
    assert all(messages(path) for path in partial)


def test_under_nohup_the_work_goes_on(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in", default_messages(40))
    process = subprocess.Popen(
        ["nohup", *command(source, "-o", tmp_path / "out")],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env=environment(HANDOS_TEST_DELAY="0.05"),
    )
    while not (tmp_path / "out.partial").exists():
        assert process.poll() is None
        time.sleep(0.02)
    process.send_signal(signal.SIGHUP)
    assert process.wait(60) == 0 and (tmp_path / "out").exists()


def test_a_ray_cluster(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'handos_ros[ray]'")
    sources = [write_bag(tmp_path / f"bag{i}", default_messages(6, first=6 * i)) for i in range(2)]
    words = [*sources, tmp_path / "nowhere", "-o", tmp_path / "out", "--ray", "local", "--threads", 1]
    result = bag(*words)
    assert result.returncode == 1 and "no such bag" in result.stderr
    for i, source in enumerate(sources):
        assert bag(source, "-o", tmp_path / f"alone{i}").returncode == 0
        assert without_time(tmp_path / "out" / source.name) == without_time(tmp_path / f"alone{i}")


def test_ray_that_is_not_there_is_named(tmp_path: Path) -> None:
    try:
        import ray  # noqa: F401
    except ImportError:
        result = bag(write_bag(tmp_path / "in"), "-o", tmp_path / "out", "--ray", "local")
        assert result.returncode == 1 and "handos_ros[ray]" in result.stderr
    else:
        pytest.skip("ray is installed")


def test_a_table_alone(tmp_path: Path) -> None:
    import pandas

    source = write_bag(tmp_path / "in")
    for name in ("hands.csv", "hands.parquet"):
        result = bag(source, "--table", tmp_path / name)
        assert result.returncode == 0, result.stderr
    assert sorted(path.name for path in tmp_path.iterdir()) == ["hands.csv", "hands.parquet", "in"]
    table = pandas.read_parquet(tmp_path / "hands.parquet")
    assert len(table) == 20
    first = table.iloc[0]
    assert (first.bag, first.camera, first.picture, first.stamp_ns) == ("in", "cam", 0, START)

    # A bag that holds hands, as recorded from the node, needs no network.
    assert bag(source, "-o", tmp_path / "out", "--no-mesh").returncode == 0
    words = [tmp_path / "out", "--recorded", "--table", tmp_path / "again.parquet"]
    assert bag(*words).returncode == 0
    again = pandas.read_parquet(tmp_path / "again.parquet")
    pandas.testing.assert_frame_equal(again.drop(columns="bag"), table.drop(columns="bag"))
    result = bag(source, "--recorded", "--table", tmp_path / "none.csv")
    assert result.returncode == 1 and "holds no hands" in result.stderr
    result = bag(source, tmp_path / "out", "--recorded", "--table", tmp_path / "some.csv")
    assert result.returncode == 1 and "holds no hands" in result.stderr
    assert len(pandas.read_csv(tmp_path / "some.csv")) == 20


def test_a_table_whose_bag_failed_is_made_whole_later(tmp_path: Path) -> None:
    import pandas

    words = [write_bag(tmp_path / "first"), tmp_path / "second", "--table", tmp_path / "hands.csv"]
    result = bag(*words)
    assert result.returncode == 1 and "second" in result.stderr
    assert len(pandas.read_csv(tmp_path / "hands.partial.csv")) == 20
    assert not (tmp_path / "hands.csv").exists()
    write_bag(tmp_path / "second")
    assert bag(*words, "--resume").returncode == 0
    assert len(pandas.read_csv(tmp_path / "hands.csv")) == 40
    assert not (tmp_path / "hands.csv.partial").exists()


@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_resume_replaces_its_own_table_and_no_other(tmp_path: Path, suffix: str) -> None:
    first, second = write_bag(tmp_path / "first"), write_bag(tmp_path / "second")
    table, output = (tmp_path / "hands").with_suffix(suffix), tmp_path / "out"
    assert bag(first, "--table", table).returncode == 0
    before = table.read_bytes()
    result = bag(second, "-o", output, "--table", table, "--resume")
    assert result.returncode == 1 and f"{table}: holds hands of other bags (first)" in result.stderr
    assert table.read_bytes() == before and not output.exists()

    # Its own table grows with the bags, also when nothing else is left to do.
    for _ in range(2):
        result = bag(first, second, "-o", output, "--table", table, "--resume")
        assert result.returncode == 0 and "40 hands -> " in result.stdout, result.stderr

    for content in (b"", b"year,income\n2024,3\n", bytes(range(256))):
        table.write_bytes(content)
        result = bag(first, second, "-o", output, "--table", table, "--resume")
        assert result.returncode == 1 and f"{table}: is there and is no table of hands" in result.stderr
        assert table.read_bytes() == content


def test_what_is_overwritten_is_not_the_input(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "out.partial")
    before = sorted(path.read_bytes() for path in source.iterdir())
    result = bag(source, "-o", tmp_path / "out", "--overwrite")
    assert result.returncode == 1 and "must be another bag than the input" in result.stderr
    assert sorted(path.read_bytes() for path in source.iterdir()) == before


@pytest.mark.parametrize(
    "place",
    [
        "rec/rec_0.mcap",
        "rec/inner",
        "rec.partial/rec_0.mcap",
        "link/rec_0.mcap",
        "pieces",
        "hands.csv.partial/sub/in",
    ],
)
def test_a_recording_inside_the_output_is_not_overwritten_with_it(tmp_path: Path, place: str) -> None:
    folder = write_bag(
        tmp_path / {"link": "rec", "pieces": "rec"}.get(place.split("/")[0], place.split("/")[0])
    )
    file = next(folder.glob("*.mcap")).rename(folder / "rec_0.mcap")
    if place == "rec/inner" or place.endswith("/in"):
        (tmp_path / place).mkdir(parents=True)
        file = file.rename(tmp_path / place / "rec_0.mcap")
    elif place == "link/rec_0.mcap":
        (tmp_path / "link").symlink_to(folder)
    elif place == "pieces":
        (tmp_path / "pieces").mkdir()
        (tmp_path / "pieces" / "rec_0.mcap").symlink_to(file)
    before = file.read_bytes()
    goal = ["--table", tmp_path / "hands.csv"] if place.endswith("/in") else ["-o", tmp_path / "rec"]
    result = bag(tmp_path / place, *goal, "--overwrite")
    assert result.returncode == 1
    assert f"{tmp_path / place}: the output must be another bag than the input" in result.stderr
    assert file.read_bytes() == before


def test_the_output_of_one_bag_does_not_replace_another_input(tmp_path: Path) -> None:
    second = write_bag(tmp_path / "out" / "first" / "second")
    first = write_bag(tmp_path / "first")
    (tmp_path / "out" / "first" / "metadata.yaml").write_text("")
    result = bag(first, second, "-o", tmp_path / "out", "--overwrite")
    assert result.returncode == 1 and f"{second}: the output must be" in result.stderr
    assert (second / "metadata.yaml").exists()


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (["--recorded", "--table", "t.csv", "--topic", "/mood"], "--topic: not with --recorded"),
        (["--recorded", "--table", "t.csv", "--min-score", "0.9"], "--min-score: not with --recorded"),
        (["--recorded", "--table", "t.csv", "--smoothing", "0"], "--smoothing: not with --recorded"),
        (["--recorded", "--table", "t.csv", "--camera", "k.yaml"], "--camera: not with --recorded"),
        (["--table", "t.csv", "--keep", "/mood"], "--keep: only with -o"),
        (["--table", "t.csv", "--storage", "sqlite3"], "--storage: only with -o"),
        (["--table", "t.csv", "--compression", "file"], "--compression: only with -o"),
        (["-o", "out", "--ray", "local", "--jobs", "3"], "--jobs: not with --ray"),
    ],
)
def test_options_that_would_do_nothing_are_refused(tmp_path: Path, words: list[str], says: str) -> None:
    paths = [tmp_path / word if word in ("t.csv", "out") else word for word in words]
    result = bag(write_bag(tmp_path / "in"), *paths)
    assert result.returncode == 2 and f"argument {says}" in result.stderr, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_words_that_make_no_sense(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    for words, says in [
        ([source], "nothing to do"),
        ([source, "--table", tmp_path / "hands.xlsx"], ".csv or .parquet"),
        ([source, "-o", tmp_path / "out.mcap"], "leave out .mcap"),
        ([source, "-o", tmp_path / "out", "--keep", "all", "--keep", "/mood"], "not both"),
        ([source, source, "-o", tmp_path / "out"], "two bags are called in"),
    ]:
        result = bag(*words)
        assert result.returncode == 1 and says in result.stderr, result.stderr
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
