"""Which topics of a bag hold pictures, what their cameras are called, and where their camera_info is."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import dataclass

from rosbags.serde import SerdeError

from handos_ros.errors import DataError
from handos_ros.files.bags_reading import BagReader, Message
from handos_ros.files.image_messages import depth_encoding, is_rectified_by_name
from handos_ros.files.rosmsg import typestore

IMAGE, COMPRESSED, CAMERA_INFO = (
    f"sensor_msgs/msg/{name}" for name in ("Image", "CompressedImage", "CameraInfo")
)


@dataclass(frozen=True)
class CameraTopics:
    """One camera of a bag.

    Attributes:
        name: as it stands in `/handos/<name>/hands`; empty for a picture topic without a namespace.
        image: its picture topic.
        info: its camera_info topic, None where the bag has none.
        rectified: the pictures were rectified, so that P holds their intrinsics and not K; by the last
            part of the topic's name (`image_rect`, `image_rect_color`).
    """

    name: str
    image: str
    info: str | None
    rectified: bool

    def output(self, what: str) -> str:
        """The topic for its `hands`, `markers` or `topology`."""
        return f"/handos/{self.name}/{what}" if self.name else f"/handos/{what}"


def choose(reader: BagReader, wanted: Sequence[str] = ()) -> tuple[list[CameraTopics], list[str]]:
    """The cameras whose pictures are to be looked at.

    Args:
        reader: the bag.
        wanted: picture topics by name; none to take the only one there is.

    Returns:
        The cameras, and a line for each wanted topic that is not there while others are.

    Raises:
        DataError: listing the bag's picture topics, if none was chosen and there are several, or if
            there is none of those that were.
    """
    topics = reader.topics
    if not wanted:
        pictures = colour_topics(reader)
        if not pictures:
            raise DataError(f"{reader.path}: no topic with pictures; it has {_listed(topics)}")
        if len(pictures) > 1:
            raise DataError(
                f"{reader.path}: several topics with pictures; choose with --topic (repeatable):"
                + "".join(f"\n  {name}  ({_described(topics[name])})" for name in pictures)
            )
        return cameras(pictures, topics), []
    missing, chosen = [], []
    for name in dict.fromkeys(wanted):
        name = full_name(name, topics)
        if name not in topics:
            missing.append(f"no topic {name}; pictures are on {_listed(image_topics(topics))}")
        elif topics[name][0] not in (IMAGE, COMPRESSED):
            raise DataError(
                f"{reader.path}: {name} holds {topics[name][0]}, no pictures; "
                f"pictures are on {_listed(image_topics(topics))}"
            )
        else:
            chosen.append(name)
    if not chosen:
        raise DataError(f"{reader.path}: {missing[0]}")
    return cameras(chosen, topics), missing


def full_name(name: str, topics: Container[str]) -> str:
    """A topic as the bag calls it; people leave out the first slash."""
    return f"/{name}" if name not in topics and f"/{name}" in topics else name


def image_topics(topics: Mapping[str, tuple[str, int | None]]) -> list[str]:
    """The topics that hold pictures, depth among them, and at least one message."""
    return sorted(
        name for name, (kind, count) in topics.items() if kind in (IMAGE, COMPRESSED) and count != 0
    )


def colour_topics(reader: BagReader) -> list[str]:
    """The topics of a bag that hold pictures of colours or greys, and at least one message."""
    names = image_topics(reader.topics)
    first = reader.first_of(names)
    return [name for name in names if name not in first or not _is_depth(first[name])]


def cameras(images: Sequence[str], topics: Mapping[str, tuple[str, int | None]]) -> list[CameraTopics]:
    """Names of the cameras behind picture topics, and their camera_info.

    A camera is called like the namespace of its picture topic; two picture topics of one namespace are
    told apart by their own names. camera_info is the sibling of the picture topic, that is before the
    transport's name (`/compressed`) where there is one.
    """
    bases = [_without_transport(name, topics[name][0]) for name in images]
    namespaces = [base.rpartition("/")[0] for base in bases]
    named = [
        base if namespaces.count(space) > 1 and bases.count(base) == 1 else space
        for base, space in zip(bases, namespaces, strict=True)
    ]
    # The same pictures raw and compressed: only the whole topic tells them apart.
    named = [image if named.count(name) > 1 else name for image, name in zip(images, named, strict=True)]
    result = []
    for image, base, space, name in zip(images, bases, namespaces, named, strict=True):
        info = f"{space}/camera_info"
        # A topic that was subscribed to is listed though nothing came; None is for nobody having counted.
        kind, count = topics.get(info, ("", 0))
        has_info = kind == CAMERA_INFO and count != 0
        rectified = is_rectified_by_name(base)
        result.append(CameraTopics(name.strip("/"), image, info if has_info else None, rectified))
    return result


def _without_transport(name: str, kind: str) -> str:
    """`/camera/image_raw/compressed` -> `/camera/image_raw`."""
    base, _, leaf = name.rpartition("/")
    return base if kind == COMPRESSED and leaf == "compressed" and base else name


def _is_depth(message: Message) -> bool:
    """Whether a topic's first message says that it is depth."""
    try:
        decoded = typestore().deserialize_cdr(message.data, message.topic.msgtype)
    except SerdeError:
        return False
    return depth_encoding(decoded) is not None


def _described(topic: tuple[str, int | None]) -> str:
    kind, count = topic
    return kind.rpartition("/")[2] + ("" if count is None else f", {count} messages")


def _listed(names: Iterable[str]) -> str:
    return ", ".join(sorted(names)) or "no topic"
