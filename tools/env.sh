# To be sourced by bash: the environment that tools/set_up.py made, for work by hand.
_handos_root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
. "$_handos_root/.venv/bin/activate"
if [ -d "$_handos_root/.venv/share/rclpy" ]; then # ROS 2 came as wheels
    if [ -n "${ROS_DISTRO:-}" ]; then unset PYTHONPATH LD_LIBRARY_PATH COLCON_PREFIX_PATH ROS_DISTRO; fi
    export AMENT_PREFIX_PATH=$_handos_root/.venv CMAKE_PREFIX_PATH=$_handos_root/.venv
fi
. "$_handos_root/install/setup.bash"
unset _handos_root
