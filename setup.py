"""pip's build; everything about it is in pyproject.toml but one step: the message texts.

`msg/` lies where colcon wants it, outside the Python package; bags written without ROS carry the same
texts, so the wheel gets a copy in `handos_ros/msg_definitions/`.
"""

from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithMessages(build_py):
    """Copy msg/*.msg beside the modules, except in an editable install, which sees msg/ itself."""

    def run(self) -> None:
        """Build the modules, then add the message texts."""
        super().run()
        if self.editable_mode:
            return
        target = Path(self.build_lib, "handos_ros", "msg_definitions")
        target.mkdir(parents=True, exist_ok=True)
        for source in sorted(Path(__file__).resolve().parent.joinpath("msg").glob("*.msg")):
            self.copy_file(str(source), str(target / source.name))


setup(cmdclass={"build_py": BuildWithMessages})
