"""Starts picker, after a look that the libtorch it needs is in this Python environment."""

import importlib.util
import os
import pathlib
import re
import sys

LIBTORCH = "2.13.0"
PROGRAM = pathlib.Path(__file__).parent / "bin" / "picker"
INSTALL = f"install it with: {sys.executable} -m pip install torch=={LIBTORCH}"


def libtorch() -> pathlib.Path:
    """The folder with libtorch's libraries, found without an import of torch, which takes seconds."""
    package = importlib.util.find_spec("torch")
    for folder in map(pathlib.Path, package.submodule_search_locations or [] if package else []):
        if (folder / "lib" / "libtorch_cpu.so").is_file():
            text = (folder / "version.py").read_text()
            version = re.search(r"^__version__ = '([0-9.]+)", text, re.MULTILINE)
            if not version or version[1] != LIBTORCH:
                other = version[1] if version else "of unknown version"
                sys.exit(f"error: picker needs libtorch {LIBTORCH}, and {folder} is {other}; {INSTALL}")
            return folder / "lib"
    sys.exit(f"error: picker needs libtorch {LIBTORCH}, which is not in this Python environment; {INSTALL}")


def main() -> None:
    """The command `picker`."""
    found = libtorch()
    # The program itself looks beside its package only.
    if found.resolve() != (PROGRAM.parent / "../../torch/lib").resolve():
        paths = [str(found), os.environ.get("LD_LIBRARY_PATH", "")]
        os.environ["LD_LIBRARY_PATH"] = ":".join(filter(None, paths))
    os.execv(PROGRAM, ["picker", *sys.argv[1:]])
