"""Names the wheel for what is in it: a program for Linux that no version of Python matters to."""

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class Tag(BuildHookInterface):
    """The tag; `tests/it/binary.rs` checks that the program needs no later glibc."""

    def initialize(self, version, build_data):
        build_data["pure_python"] = False
        build_data["tag"] = "py3-none-manylinux_2_34_x86_64"
