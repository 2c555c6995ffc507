import os
import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.cli import settings
from edgecache.errors import ConfigError


def test_options_override_the_file(tmp_path: Path) -> None:
    file = tmp_path / "edgecache.toml"
    file.write_text('[server]\npop = "one"\n')
    assert settings.read(file).config.server.pop == "one"
    assert settings.read(file, {"server.pop": "two"}).origins["server.pop"] == "command line"


def test_a_bad_file_is_a_config_error(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        settings.read(tmp_path / "absent.toml")


def test_the_environment_of_the_process_is_read() -> None:
    code = "from edgecache.cli import settings; print(settings.read(None).config.server.pop)"
    environment = {**os.environ, "EDGECACHE__SERVER__POP": "fra1"}  # noqa: TID251 - of the child
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert done.stdout == "fra1\n"
    assert settings.environment()["PATH"]
