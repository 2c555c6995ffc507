import hashlib
from pathlib import Path

import msgspec
import pytest

from edgecache.embed import manifest
from edgecache.embed.manifest import Model, Package
from edgecache.errors import ConfigError


@pytest.fixture
def model(tmp_path: Path) -> Model:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "weights").write_bytes(b"weights")
    (tmp_path / "config.json").write_bytes(b"{}")
    digests = {
        name: hashlib.sha256((tmp_path / name).read_bytes()).hexdigest() for name in ("config.json", "sub/weights")
    }
    return Model(
        name="m",
        forward="bert",
        dimension=4,
        window=8,
        licence="Apache-2.0",
        tolerance={"fp32": 0.0},
        sha256=digests,
        package=Package(name="no-such-distribution-xyz", folder="x"),
    )


def test_the_shipped_manifest_names_everything_the_loader_needs() -> None:
    (minilm,) = manifest.read(manifest.default_path())
    assert (minilm.name, minilm.dimension, minilm.window) == ("all-MiniLM-L6-v2", 384, 256)
    assert minilm.licence == "Apache-2.0"
    assert minilm.hub is not None
    assert len(minilm.hub.revision) == 40
    assert {"model.safetensors", "tokenizer.json", "config.json"} <= set(minilm.sha256)
    assert minilm.tolerance["fp32"] == 0.0


@pytest.mark.model
def test_the_packaged_weights_are_the_pinned_ones() -> None:
    (minilm,) = manifest.read(manifest.default_path())
    manifest.verify(minilm, manifest.locate(minilm))


def test_whole_files_pass(model: Model, tmp_path: Path) -> None:
    manifest.verify(model, tmp_path)


@pytest.mark.parametrize("name", ["config.json", "sub/weights"])
def test_one_altered_byte_is_refused(model: Model, tmp_path: Path, name: str) -> None:
    content = bytearray((tmp_path / name).read_bytes())
    content[-1] ^= 1
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ConfigError, match=f"{name} is not the pinned file"):
        manifest.verify(model, tmp_path)


def test_a_missing_file_is_refused(model: Model, tmp_path: Path) -> None:
    (tmp_path / "config.json").unlink()
    with pytest.raises(ConfigError, match=r"config\.json: No such file"):
        manifest.verify(model, tmp_path)


def test_a_local_folder_goes_before_the_package(model: Model, tmp_path: Path) -> None:
    assert manifest.locate(model, tmp_path) == tmp_path


def test_without_any_source_the_error_says_what_to_do(model: Model) -> None:
    with pytest.raises(ConfigError, match=r"pip install no-such-distribution-xyz.*embed\.path"):
        manifest.locate(model)


def test_a_distribution_without_the_folder_does_not_count(model: Model) -> None:
    elsewhere = msgspec.structs.replace(model, package=Package(name="numpy", folder="numpy/no-such-folder"))
    with pytest.raises(ConfigError, match="no files of model"):
        manifest.locate(elsewhere)


def test_the_digest_changes_with_any_file(model: Model) -> None:
    other = msgspec.structs.replace(model, sha256={**model.sha256, "config.json": "0" * 64})
    assert other.digest != model.digest


@pytest.mark.parametrize(
    ("text", "problem"),
    [("[[model]", "Expected"), ("[[model]]\nname = 'x'\n", "window"), ("modle = []", "modle"), (None, "No such file")],
)
def test_a_broken_manifest_is_refused_by_name(tmp_path: Path, text: str | None, problem: str) -> None:
    path = tmp_path / "manifest.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=problem) as caught:
        manifest.read(path)
    assert str(path) in str(caught.value)


def test_the_shipped_manifest_pins_every_file_of_the_pair_verifier() -> None:
    from edgecache.embed.verifier import FILES

    verifier = manifest.read_verifier(manifest.default_path())
    (minilm,) = manifest.read(manifest.default_path())
    assert verifier.base == minilm.name
    assert verifier.window == minilm.window
    assert set(FILES) <= set(verifier.sha256)


def test_a_manifest_may_do_without_a_verifier_until_it_is_asked_for(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text("model = []")
    assert manifest.read(path) == ()
    with pytest.raises(ConfigError, match=r"no \[verifier\].*embed\.verifier"):
        manifest.read_verifier(path)


def test_unknown_keys_of_a_verifier_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "manifest.toml"
    path.write_text("model = []\n[verifier]\nname = 'v'\nweigths = 'w'\n")
    with pytest.raises(ConfigError, match="verifier"):
        manifest.read_verifier(path)


@pytest.mark.model
def test_altered_files_of_a_verifier_are_refused(manifest_path: Path, verifier_folder: Path, tmp_path: Path) -> None:
    pinned = manifest.read_verifier(manifest_path)
    manifest.verify(pinned, verifier_folder)
    with pytest.raises(ConfigError, match=r"`tiny`.*No such file"):
        manifest.verify(pinned, tmp_path)
