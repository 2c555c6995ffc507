import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.wasm import landlock

pytestmark = pytest.mark.skipif(not landlock.version(), reason="this kernel has no landlock")
CONFINED = """
import sys
from pathlib import Path
from edgecache.wasm import landlock, prctl
prctl.call(prctl.SET_NO_NEW_PRIVS, 1)
print(landlock.confine([Path(sys.argv[1]), Path("/nothing/there")]))
for name in sys.argv[2:]:
    try: print(open(name).read())
    except OSError as error: print(error.errno)
try: open(sys.argv[1] + "/new", "w")
except OSError as error: print("cannot write", error.errno)
"""


@pytest.mark.slow
def test_only_what_is_named_can_be_read(tmp_path: Path) -> None:
    inside, outside = tmp_path / "inside", tmp_path / "outside"
    for folder in (inside, outside):
        folder.mkdir()
        (folder / "file").write_text(folder.name)
    (inside / "link").symlink_to(outside / "file")
    names = [inside / "file", outside / "file", inside / "link", inside / ".." / "outside" / "file"]
    done = subprocess.run(
        [sys.executable, "-c", CONFINED, str(inside), *map(str, names)],
        capture_output=True,
        text=True,
        check=True,
        timeout=60,
    )
    assert done.stdout.splitlines() == ["True", "inside", "13", "13", "13", "cannot write 13"]
