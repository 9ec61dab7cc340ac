"""A bag in, a bag out: what is in it, for every storage, and that resuming changes nothing."""

from __future__ import annotations

import json
import os
import threading
from pathlib import Path

import numpy as np
import pytest
import yaml
from bag_makers import (
    HEIGHT,
    START,
    STEP,
    STORAGES,
    WIDTH,
    T,
    camera_info,
    default_messages,
    jpeg,
    raw,
    scene,
    write_bag,
)
from rosbags.highlevel import AnyReader
from rosbags.interfaces import QosDurability

from handos_ros.errors import DataError
from handos_ros.files.bags import BagOptions, process_bag
from handos_ros.files.bags_parallel import BagTask, run_here
from handos_ros.files.bags_reading import BagReader
from handos_ros.hands import Camera, KSource
from handos_ros.inference.pipeline import Pipeline
from handos_ros.network.config import SecondLookConfig
from standin import standin_pipeline

HANDS, MARKERS, TOPOLOGY = (f"/handos/cam/{name}" for name in ("hands", "markers", "topology"))
PICTURES = "/cam/image_raw/compressed"
TRUE_HANDS = [1 + (i % 5 < 3) for i in range(1000)]


def contents(path: Path) -> list[tuple[str, int, object]]:
    """All messages of a bag, as a library that knows nothing of this package reads them."""
    with AnyReader([path]) as reader:
        return [
            (connection.topic, stamp, reader.deserialize(data, connection.msgtype))
            for connection, stamp, data in reader.messages()
        ]


def raw_contents(path: Path) -> list[tuple[str, int, bytes]]:
    """All messages of a bag as bytes, without the one value that is measured anew in every run."""
    with AnyReader([path]) as reader:
        result = []
        for connection, stamp, data in reader.messages():
            if connection.topic.endswith("/hands"):
                message = reader.deserialize(data, connection.msgtype)
                message.processing_time.sec = message.processing_time.nanosec = 0
                data = reader.typestore.serialize_cdr(message, connection.msgtype)
            result.append((connection.topic, stamp, bytes(data)))
        return result


def of(messages: list[tuple[str, int, object]], topic: str) -> list[tuple[int, object]]:
    return [(stamp, message) for name, stamp, message in messages if name == topic]


def run(source: Path, output: Path, **options):
    return process_bag(source, output, [standin_pipeline()], BagOptions(**options))


@pytest.mark.parametrize(
    ("storage", "compression"),
    STORAGES,
)
@pytest.mark.parametrize("parts", [1, 3])
def test_every_storage_in_and_out(tmp_path: Path, storage: str, compression: str, parts: int) -> None:
    source = write_bag(tmp_path / "in", storage=storage, compression=compression, parts=parts)
    report = run(source, tmp_path / "out")
    assert not report.errors and report.pictures == 12 and report.hands == sum(TRUE_HANDS[:12])

    # As the input's, as its metadata says.
    output = BagReader(tmp_path / "out")
    assert (output.storage, output.compression) == (storage, compression)
    found, given = raw_contents(tmp_path / "out"), raw_contents(source)
    ours = [message for message in found if message[0].startswith("/handos/")]
    assert sorted(set(found) - set(ours)) == sorted(given)
    assert len(ours) == 2 * 12 + 1
    assert not (tmp_path / "out.partial").exists()


def test_what_the_messages_say(tmp_path: Path) -> None:
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    found = contents(tmp_path / "out")
    given = of(found, PICTURES)
    hands = of(found, HANDS)
    assert [stamp for stamp, _ in hands] == [stamp for stamp, _ in given]
    for i, ((_, array), (_, picture)) in enumerate(zip(hands, given, strict=True)):
        assert array.header == picture.header
        assert (array.width, array.height) == (WIDTH, HEIGHT)
        assert array.k.reshape(3, 3)[0, 0] == 300 and array.k_source == KSource.CAMERA_INFO
        assert len(array.hands) == TRUE_HANDS[i]
        right = next(hand for hand in array.hands if hand.handedness == 1)
        assert (right.box[0] + right.box[2]) / 2 == pytest.approx(60 + 4 * i, abs=12)
        for hand in array.hands:
            assert len(hand.vertices) == 3 * 120
            assert hand.id >= 0
            for point, pixel in zip(hand.joints_3d, hand.joints_2d, strict=True):
                u = 300 * point.x / point.z + 160
                assert u == pytest.approx(pixel.u, abs=8)
            assert (hand.wrist.position.x, hand.wrist.position.z) == (
                hand.joints_3d[0].x,
                hand.joints_3d[0].z,
            )
    ((stamp, topology),) = of(found, TOPOLOGY)
    assert stamp == given[0][0] and topology.model == "stand-in"
    assert topology.num_vertices == 120 and len(topology.triangles) == 3 * 160
    assert topology.joint_names[0] == "wrist" and topology.joint_parents[0] == -1


def test_markers_come_and_go(tmp_path: Path) -> None:
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    shown: set[tuple[str, int]] = set()
    for i, (_, array) in enumerate(of(contents(tmp_path / "out"), MARKERS)):
        for marker in array.markers:
            key = (marker.ns, marker.id)
            if marker.action == T["visualization_msgs/msg/Marker"].DELETE:
                shown.remove(key)
            else:
                shown.add(key)
                assert marker.header.frame_id == "camera_optical"
                assert len(marker.points) == {"bones": 40, "joints": 21, "mesh": 480, "label": 0}[marker.ns]
        assert len(shown) == 4 * TRUE_HANDS[i]


def test_topology_is_offered_to_late_subscribers(tmp_path: Path) -> None:
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    with AnyReader([tmp_path / "out"]) as reader:
        offered = {c.topic: c.ext.offered_qos_profiles for c in reader.connections}
    assert offered[TOPOLOGY][0].durability == QosDurability.TRANSIENT_LOCAL
    assert offered[HANDS][0].durability == QosDurability.VOLATILE


def test_the_definition_travels_in_the_file(tmp_path: Path) -> None:
    """A lone file of the output is enough, without metadata.yaml and without this package."""
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    with AnyReader([tmp_path / "out" / "out_0.mcap"]) as reader:
        definition = next(c.msgdef.data for c in reader.connections if c.topic == HANDS)
    assert "Hand[] hands" in definition and "MSG: handos_ros/Keypoint2D" in definition


def test_the_hash_is_the_one_that_ros_computes(tmp_path: Path) -> None:
    prefixes = os.environ.get("AMENT_PREFIX_PATH", "").split(os.pathsep)
    folders = [Path(prefix, "share", "handos_ros", "msg") for prefix in prefixes]
    folder = next((folder for folder in folders if (folder / "HandArray.json").is_file()), None)
    if folder is None:
        pytest.skip("the package's messages are not built, or their installation is not sourced")
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    with AnyReader([tmp_path / "out"]) as reader:
        digests = {connection.msgtype: connection.digest for connection in reader.connections}
    for name in ("HandArray", "HandTopology"):
        described = json.loads((folder / f"{name}.json").read_text())["type_hashes"]
        hashes = {entry["type_name"]: entry["hash_string"] for entry in described}
        assert digests[f"handos_ros/msg/{name}"] == hashes[f"handos_ros/msg/{name}"]


@pytest.mark.parametrize("keep", ["none", ("/mood",), ("mood",)])
def test_input_topics_may_be_dropped(tmp_path: Path, keep) -> None:
    run(write_bag(tmp_path / "in"), tmp_path / "out", keep=keep, mesh=False)
    found = contents(tmp_path / "out")
    kept = () if keep == "none" else ("/mood",)
    assert {name for name, _, _ in found} == {HANDS, MARKERS, TOPOLOGY, *kept}
    assert all(len(hand.vertices) == 0 for _, array in of(found, HANDS) for hand in array.hands)
    assert all(marker.ns != "mesh" for _, array in of(found, MARKERS) for marker in array.markers)


def test_several_cameras_in_one_pass(tmp_path: Path) -> None:
    messages: list[tuple[str, int, object]] = []
    for i in range(6):
        stamp = START + i * STEP
        messages += [
            ("/left/image_raw", stamp, raw(i, stamp, "bgr8")),
            ("/left/camera_info", stamp + 1, camera_info(stamp, 300)),
            ("/right/image_raw", stamp + 2, raw(i + 20, stamp, "bgr8")),
            ("/right/camera_info", stamp + 3, camera_info(stamp, 400)),
            ("/depth/image_raw", stamp + 4, raw(i, stamp, "16UC1")),
        ]
    source = write_bag(tmp_path / "in", messages)
    with pytest.raises(DataError, match=r"choose with --topic[^$]*\n  /left/image_raw[^$]*\n  /right"):
        run(source, tmp_path / "out")
    with pytest.raises(DataError) as error:
        run(source, tmp_path / "out")
    assert "/depth" not in str(error.value)

    report = run(source, tmp_path / "out", topics=("/left/image_raw", "/right/image_raw"))
    assert report.pictures == 12
    found = contents(tmp_path / "out")
    for side, focal, offset in (("left", 300, 0), ("right", 400, 20)):
        arrays = of(found, f"/handos/{side}/hands")
        assert len(arrays) == 6 and len(of(found, f"/handos/{side}/topology")) == 1
        assert {array.k[0] for _, array in arrays} == {focal}
        right = next(hand for hand in arrays[0][1].hands if hand.handedness == 1)
        assert (right.box[0] + right.box[2]) / 2 == pytest.approx(60 + 4 * offset, abs=12)
        # One tracker for each camera: its hand keeps its number, whatever the other sees.
        assert len({hand.id for _, array in arrays for hand in array.hands if hand.handedness == 1}) == 1


def test_depth_beside_one_colour_topic_needs_no_choice(tmp_path: Path) -> None:
    messages = [*default_messages(3), ("/depth/image_raw", START, raw(0, START, "16UC1"))]
    assert run(write_bag(tmp_path / "in", messages), tmp_path / "out").pictures == 3


def test_a_camera_file_wins_over_camera_info(tmp_path: Path) -> None:
    camera = Camera(np.array([[250.0, 0, 159], [0, 250, 119], [0, 0, 1]]), WIDTH, HEIGHT)
    run(write_bag(tmp_path / "in"), tmp_path / "out", camera=camera)
    for _, array in of(contents(tmp_path / "out"), HANDS):
        assert array.k[0] == 250 and array.k_source == KSource.PARAMETER


def test_a_camera_file_has_other_intrinsics_for_rectified_pictures(tmp_path: Path) -> None:
    def camera(f, *distortion):
        k = np.array([[f, 0, 159], [0, f, 119], [0, 0, 1]], float)
        return Camera(k, WIDTH, HEIGHT, distortion=distortion)

    plain, rectified = camera(250, -0.2, 0.05, 0, 0, 0), camera(230)
    messages = [(topic.replace("image_raw", "image_rect"), *rest) for topic, *rest in default_messages(2)]
    source = write_bag(tmp_path / "in", messages)
    with pytest.raises(DataError, match=r"image_rect.* are rectified; their camera file needs a proj"):
        run(source, tmp_path / "out", camera=plain)
    run(source, tmp_path / "out", camera=plain, rectified_camera=rectified)
    for _, array in of(contents(tmp_path / "out"), HANDS):
        assert array.k[0] == 230
    run(write_bag(tmp_path / "raw"), tmp_path / "of_raw", camera=plain, rectified_camera=rectified)
    assert {array.k[0] for _, array in of(contents(tmp_path / "of_raw"), HANDS)} == {250}


def test_rectified_pictures_on_a_topic_of_another_name(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    plain, rectified = (Camera(np.diag([f, f, 1.0]), WIDTH, HEIGHT) for f in (250.0, 230.0))
    run(source, tmp_path / "out", camera=plain, rectified_camera=rectified, rectified=True)
    assert {array.k[0] for _, array in of(contents(tmp_path / "out"), HANDS)} == {230}


def test_camera_info_may_change_on_the_way(tmp_path: Path) -> None:
    messages = [message for message in default_messages(8) if message[0] != "/cam/camera_info"]
    messages += [("/cam/camera_info", START + 2 * STEP, camera_info(START, 310))]
    messages += [("/cam/camera_info", START + 5 * STEP, camera_info(START, 320))]
    run(write_bag(tmp_path / "in", sorted(messages, key=lambda m: m[1])), tmp_path / "out")
    focal = [array.k[0] for _, array in of(contents(tmp_path / "out"), HANDS)]
    # The first holds from the beginning, each later one from where it stands.
    assert focal == [310] * 5 + [320] * 3


def test_no_camera_info_is_said(tmp_path: Path) -> None:
    messages = [message for message in default_messages(2) if message[0] != "/cam/camera_info"]
    report = run(write_bag(tmp_path / "in", messages), tmp_path / "out")
    assert not report.errors and "camera is assumed" in report.notes[0]
    assert of(contents(tmp_path / "out"), HANDS)[0][1].k_source == KSource.ASSUMED


def test_a_camera_info_of_which_nothing_came_is_said(tmp_path: Path) -> None:
    """rosbag2 lists what it subscribed to."""
    messages = [message for message in default_messages(2) if message[0] != "/cam/camera_info"]
    source = write_bag(tmp_path / "in", messages, silent={"/cam/camera_info": "sensor_msgs/msg/CameraInfo"})
    report = run(source, tmp_path / "out")
    assert "camera is assumed" in report.notes[0]


def test_camera_info_without_k_is_named_and_the_work_done(tmp_path: Path) -> None:
    messages = [(topic, stamp, camera_info(stamp, 0) if "info" in topic else message)
                for topic, stamp, message in default_messages(5)]  # fmt: skip
    report = run(write_bag(tmp_path / "in", messages), tmp_path / "out")
    (error,) = report.errors
    assert "/cam/camera_info" in error and "never calibrated" in error
    assert report.pictures == 5
    assert of(contents(tmp_path / "out"), HANDS)[0][1].k_source == KSource.ASSUMED


def test_a_bad_picture_is_named_and_left_out(tmp_path: Path) -> None:
    messages = default_messages(6)
    topic, stamp, message = messages[6]
    messages[6] = (topic, stamp, jpeg(2, START, data=message.data[:400]))
    report = run(write_bag(tmp_path / "in", messages), tmp_path / "out")
    assert (report.pictures, report.bad_pictures) == (5, 1)
    (error,) = report.errors
    assert PICTURES in error and "cut off" in error and "1700000000.08" in error
    found = contents(tmp_path / "out")
    assert len(of(found, HANDS)) == 5 and len(of(found, PICTURES)) == 6


def test_output_of_an_earlier_run_is_replaced_not_doubled(tmp_path: Path) -> None:
    run(write_bag(tmp_path / "in"), tmp_path / "out")
    report = run(tmp_path / "out", tmp_path / "again")
    assert any("replaced" in note for note in report.notes)
    assert raw_contents(tmp_path / "again") == raw_contents(tmp_path / "out")


def test_parts_of_the_output(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    run(source, tmp_path / "one")
    run(source, tmp_path / "many", part_bytes=30_000)
    files = sorted(file.name for file in (tmp_path / "many").iterdir())
    assert len(files) > 3 and files[:2] == ["many_0.mcap", "many_1.mcap"] and files[-1] == "metadata.yaml"
    assert raw_contents(tmp_path / "many") == raw_contents(tmp_path / "one")
    info = yaml.safe_load((tmp_path / "many" / "metadata.yaml").read_text())["rosbag2_bagfile_information"]
    assert info["message_count"] == len(contents(tmp_path / "one"))
    assert info["starting_time"]["nanoseconds_since_epoch"] == START + 3_000_000
    assert sum(file["message_count"] for file in info["files"]) == info["message_count"]


@pytest.mark.parametrize("stop_after", [1, 7, 11])
@pytest.mark.parametrize("part_bytes", [30_000, 1 << 30])
def test_resuming_changes_nothing(tmp_path: Path, stop_after: int, part_bytes: int) -> None:
    source = write_bag(tmp_path / "in")
    run(source, tmp_path / "whole")
    left, output = [stop_after], tmp_path / "out"

    def stop() -> bool:
        left[0] -= 1
        return left[0] < 0

    options = BagOptions(resume=True, part_bytes=part_bytes)
    report = process_bag(source, output, [standin_pipeline()], options, stop=stop)
    assert report.interrupted and report.pictures == stop_after
    assert not output.exists() and report.output == tmp_path / "out.partial"
    # What is there is a bag, and the beginning of the whole one.
    partial = raw_contents(report.output)
    assert partial == raw_contents(tmp_path / "whole")[: len(partial)]

    left[:] = [min(2, 11 - stop_after)]
    process_bag(source, output, [standin_pipeline()], options, stop=stop)
    report = process_bag(source, output, [standin_pipeline()], options)
    assert not report.interrupted and report.pictures == 12 and report.hands == sum(TRUE_HANDS[:12])
    assert raw_contents(output) == raw_contents(tmp_path / "whole")
    assert not (tmp_path / "out.partial").exists()
    assert sorted(file.suffix for file in output.iterdir())[-1] == ".yaml"
    assert process_bag(source, output, [standin_pipeline()], options).done_before


def test_resuming_another_job_is_refused(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    process_bag(
        source, tmp_path / "out", [standin_pipeline()], BagOptions(), stop=iter([False, True]).__next__
    )
    for options, words in [
        ({"resume": True, "mesh": False}, "other input or options \\(mesh\\)"),
        ({"resume": True, "keep": "none"}, "kept topics"),
        ({}, r"--resume.*--overwrite"),
    ]:
        with pytest.raises(DataError, match=words):
            run(source, tmp_path / "out", **options)
        assert (tmp_path / "out.partial" / "metadata.yaml").exists()
    (tmp_path / "other.onnx").write_bytes(b"other weights")
    closer = standin_pipeline()
    closer.backend.long_side = 448
    with pytest.raises(DataError, match=r"other input or options \(long side\)"):
        process_bag(source, tmp_path / "out", [closer], BagOptions(resume=True))
    twice = standin_pipeline()
    twice.backend.second_look = SecondLookConfig(below=60, above=180, size=90, cell=160)
    with pytest.raises(DataError, match=r"other input or options \(second look\)"):
        process_bag(source, tmp_path / "out", [twice], BagOptions(resume=True))
    other = standin_pipeline(weights=[tmp_path / "other.onnx"])
    with pytest.raises(DataError, match=r"other input or options \(weights\)"):
        process_bag(source, tmp_path / "out", [other], BagOptions(resume=True))
    assert run(source, tmp_path / "out", overwrite=True).pictures == 12


def test_a_finished_bag_of_another_job_is_not_taken_for_done(tmp_path: Path) -> None:
    source, output = write_bag(tmp_path / "in"), tmp_path / "out"
    run(source, output)
    before = raw_contents(output)
    camera = Camera(np.array([[250.0, 0, 159], [0, 250, 119], [0, 0, 1]]), WIDTH, HEIGHT)
    for options, words in [
        ({"camera": camera}, r"\(camera\)"),
        ({"storage": "sqlite3", "keep": "none"}, r"\(kept topics, storage\)"),
        ({"compression": "message"}, r"\(compression\)"),
    ]:
        with pytest.raises(DataError, match=f"{output}: was made with other.*{words}.*--overwrite"):
            run(source, output, resume=True, **options)
    with pytest.raises(DataError, match=r"\(input\)"):
        run(write_bag(tmp_path / "other", default_messages(5)), output, resume=True)
    assert raw_contents(output) == before
    assert run(source, output, resume=True, part_bytes=30_000).done_before

    # Earlier versions kept no record.
    file = output / "metadata.yaml"
    metadata = yaml.safe_load(file.read_text())
    job = metadata["rosbag2_bagfile_information"]["custom_data"].pop("handos_job")
    assert len(job) < 1000
    file.write_text(yaml.safe_dump(metadata))
    assert run(source, output, resume=True, camera=camera).done_before
    assert run(source, output, overwrite=True, resume=True, camera=camera).pictures == 12


def test_an_output_that_is_there(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    run(source, tmp_path / "out")
    before = raw_contents(tmp_path / "out")
    with pytest.raises(DataError, match=r"is there already.*--overwrite"):
        run(source, tmp_path / "out", keep="none")
    assert raw_contents(tmp_path / "out") == before
    run(source, tmp_path / "out", keep="none", overwrite=True)
    assert len(contents(tmp_path / "out")) == 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]
    (tmp_path / "home").mkdir()
    (tmp_path / "home" / "thesis").write_text("no bag")
    with pytest.raises(DataError, match="is no bag, so it is not replaced"):
        run(source, tmp_path / "home", overwrite=True)


@pytest.mark.parametrize("name", ["a#1", "a%41b"])
def test_names_that_sqlite_cannot_write_to_are_refused(tmp_path: Path, name: str) -> None:
    source = write_bag(tmp_path / "in", storage="sqlite3")
    with pytest.raises(DataError, match=f"{name}/out: sqlite3 cannot be written .*--storage mcap"):
        run(source, tmp_path / name / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    run(source, tmp_path / name / "out", storage="mcap")
    assert len(of(contents(tmp_path / name / "out"), HANDS)) == 12


def test_a_link_to_a_bag_is_replaced_and_not_the_bag(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    run(source, tmp_path / "kept")
    (tmp_path / "out").symlink_to(tmp_path / "kept")
    run(source, tmp_path / "out", keep="none", overwrite=True)
    assert len(contents(tmp_path / "out")) == 25 and len(contents(tmp_path / "kept")) > 25
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "kept", "out"]


def test_an_error_leaves_nothing_under_the_final_name(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    pipeline = standin_pipeline()
    calls: list[int] = []
    detect = pipeline.backend.detect

    def broken(picture):
        calls.append(1)
        if len(calls) == 9:
            raise RuntimeError("the network fell over")
        return detect(picture)

    pipeline.backend.detect = broken
    with pytest.raises(RuntimeError, match="fell over"):
        process_bag(source, tmp_path / "out", [pipeline], BagOptions())
    assert [path.name for path in tmp_path.iterdir()] == ["in"]
    # With parts, those that are finished stay.
    calls.clear()
    with pytest.raises(RuntimeError, match="fell over"):
        process_bag(source, tmp_path / "out", [pipeline], BagOptions(part_bytes=30_000))
    assert not (tmp_path / "out").exists()
    assert len(contents(tmp_path / "out.partial")) > 10


def test_several_networks_look_at_once_and_make_the_bag_that_one_makes(tmp_path: Path) -> None:
    source = write_bag(tmp_path / "in")
    run(source, tmp_path / "one")
    together = threading.Barrier(3, timeout=20)
    pipelines = [standin_pipeline() for _ in range(3)]
    looked = []
    for number, pipeline in enumerate(pipelines):

        def wait_for_the_others(picture, number=number, detect=pipeline.backend.detect):
            together.wait()  # 12 pictures, 3 at a time: none may ever be looked at alone
            looked.append(number)
            return detect(picture)

        pipeline.backend.detect = wait_for_the_others
    report = process_bag(source, tmp_path / "three", pipelines, BagOptions(decoders=1))
    assert report.pictures == len(looked) == 12 and set(looked) == {0, 1, 2}
    assert raw_contents(tmp_path / "three") == raw_contents(tmp_path / "one")


@pytest.mark.parametrize(
    ("name", "device", "threads", "loaded"),
    [
        ("onnxruntime", "cpu", 2, [1, 1]),
        ("onnxruntime", "cpu", 9, [2, 2, 2, 2]),
        ("onnxruntime", "cpu", 1, [1]),
        ("onnxruntime", "cuda", 8, [2]),
        ("torch", "cuda", 8, [2]),
        ("torch", "cpu", 8, [2, 8]),
    ],
)
def test_threads_are_shared_out_among_networks_where_these_run_side_by_side(
    tmp_path: Path, name: str, device: str, threads: int, loaded: list[int]
) -> None:
    given, pipelines = [], []

    def load(*, threads: int | None) -> Pipeline:
        given.append(threads)
        pipelines.append(standin_pipeline())
        pipelines[-1].backend.name, pipelines[-1].backend.device = name, device
        return pipelines[-1]

    task = BagTask(write_bag(tmp_path / "in"), tmp_path / "out")
    done = list(
        run_here(
            [task], load, BagOptions(), threads=threads, stop=lambda: False, on_pictures=lambda more: None
        )
    )
    assert [outcome.report.pictures for outcome in done] == [12]
    assert given == loaded
    assert all(pipeline.backend.closed for pipeline in pipelines)


def test_memory_does_not_grow_with_the_bag(tmp_path: Path, monkeypatch) -> None:
    """However slow the network, no more than a handful of pictures is read ahead."""
    source = write_bag(tmp_path / "in", default_messages(40))
    pipeline, ahead = standin_pipeline(), []
    read: list[int] = []
    original = BagReader.messages

    def counting(self, topics):
        for message in original(self, topics):
            read.append(1)
            yield message

    monkeypatch.setattr(BagReader, "messages", counting)
    looked = 0

    def stop() -> bool:
        nonlocal looked
        looked += 1
        import time

        time.sleep(0.005)
        ahead.append(len(read) / 3 - looked)
        return False

    process_bag(source, tmp_path / "out", [pipeline], BagOptions(), stop=stop)
    assert 1 < max(ahead) < 9


def test_scene_is_what_the_stand_in_sees() -> None:
    assert [len(standin_pipeline()(scene(i))) for i in range(6)] == TRUE_HANDS[:6]
