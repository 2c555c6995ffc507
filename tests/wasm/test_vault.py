import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from edgecache.errors import ConfigError, FunctionFault
from edgecache.wasm.base import Kind
from edgecache.wasm.facts import Facts
from edgecache.wasm.vault import Artefact, Sealed, Vault, copied, digest_of, read_key, verified

CHILD = Path(__file__).parent / "child_vault.py"
KEY = b"k" * 32
CODE = b"machine code " * 100
DIGEST = digest_of(b"an upload")
ENGINE = "engine 1"


@pytest.fixture
def vault(tmp_path: Path) -> Vault:
    return Vault(tmp_path / "vault", KEY)


def sealed(vault: Vault, code: bytes = CODE, *, fingerprint: str = ENGINE) -> Artefact:
    draft = vault.draft(DIGEST, fingerprint)
    draft.write_bytes(code)
    return vault.seal(draft, Sealed(DIGEST, fingerprint, Kind.SCRIPT, {"fn": 7}, Facts(9), 1.5))


def files(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.rglob("*") if path.is_file())


def test_what_was_sealed_is_found_again(vault: Vault, tmp_path: Path) -> None:
    made = sealed(vault)
    assert made == vault.find(DIGEST, ENGINE) == Vault(tmp_path / "vault", KEY).find(DIGEST, ENGINE)
    assert (made.kind, made.extra, made.facts, made.cpu, made.bytes) == (Kind.SCRIPT, {"fn": 7}, Facts(9), 1.5, 1300)
    with verified(made) as path:
        assert path.read_bytes() == CODE


def test_code_of_another_engine_is_not_found(vault: Vault) -> None:
    sealed(vault)
    assert vault.find(DIGEST, "engine 2") is None
    assert vault.find(DIGEST, ENGINE) is not None


def test_sealing_again_replaces(vault: Vault) -> None:
    sealed(vault)
    assert sealed(vault, b"other code").bytes == 10
    found = vault.find(DIGEST, ENGINE)
    assert found is not None
    assert found.bytes == 10


def _edit(code: Path, old: bytes, new: bytes) -> None:
    seal = code.with_suffix(".seal")
    content = seal.read_bytes()
    assert old in content
    seal.write_bytes(content.replace(old, new))


def _link(code: Path) -> None:
    elsewhere = code.parent.parent / "elsewhere"
    code.rename(elsewhere)
    code.symlink_to(elsewhere)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda code: code.write_bytes(CODE[:-1] + b"!"), id="one byte"),
        pytest.param(lambda code: code.write_bytes(CODE[:-1]), id="truncated"),
        pytest.param(lambda code: code.write_bytes(b""), id="empty"),
        pytest.param(lambda code: code.unlink(), id="gone"),
        pytest.param(lambda code: code.with_suffix(".seal").unlink(), id="no seal"),
        pytest.param(lambda code: code.with_suffix(".seal").write_bytes(b""), id="an empty seal"),
        pytest.param(lambda code: _edit(code, b'"cpu":1.5', b'"cpu":9.5'), id="an edited seal"),
        pytest.param(lambda code: _edit(code, b'"fn":7', b'"fn":8'), id="edited handles"),
        pytest.param(_link, id="a link to code elsewhere"),
    ],
)
def test_what_was_tampered_with_is_removed(vault: Vault, spoil) -> None:
    spoil(sealed(vault).code)
    assert vault.find(DIGEST, ENGINE) is None
    assert files(vault.code) == []


def test_a_seal_under_another_key_counts_for_nothing(vault: Vault, tmp_path: Path) -> None:
    sealed(vault)
    assert Vault(tmp_path / "vault", b"x" * 32).find(DIGEST, ENGINE) is None


def test_a_seal_is_for_one_upload_and_engine_only(vault: Vault) -> None:
    made = sealed(vault)
    other = vault.draft(DIGEST, "engine 2")
    vault.discard(other)
    target = other.with_name(other.name.split(".")[0] + ".cwasm")
    for suffix in (".cwasm", ".seal"):
        target.with_suffix(suffix).write_bytes(made.code.with_suffix(suffix).read_bytes())
    assert vault.find(DIGEST, "engine 2") is None
    assert vault.find(DIGEST, ENGINE) == made


def test_code_that_changes_after_it_was_found_is_not_loaded(vault: Vault) -> None:
    made = sealed(vault)
    made.code.write_bytes(b"something else")
    with pytest.raises(FunctionFault, match="altered on disk"), verified(made):
        pass
    made.code.unlink()
    with pytest.raises(FunctionFault, match="cannot be read"), verified(made):
        pass


def test_what_is_mapped_is_what_was_compared(vault: Vault) -> None:
    made = sealed(vault)
    with verified(made) as path:
        other = made.code.with_suffix(".other")
        other.write_bytes(b"something else")
        other.replace(made.code)
        assert path.read_bytes() == CODE


def test_uploads_are_kept_by_their_digest(vault: Vault) -> None:
    digest = vault.put(b"an upload")
    assert digest == DIGEST == vault.put(b"an upload")
    assert vault.get(digest) == b"an upload"
    assert vault.digests() == {digest}


def test_an_altered_upload_is_not_given(vault: Vault, tmp_path: Path) -> None:
    vault.put(b"an upload")
    (tmp_path / "vault" / "artefacts" / DIGEST).write_bytes(b"an uplaod")
    with pytest.raises(FunctionFault, match="altered"):
        vault.get(DIGEST)
    with pytest.raises(FunctionFault, match="cannot be read"):
        vault.get("0" * 64)


@pytest.mark.parametrize("name", ["../../etc/passwd", "", "A" * 64, "0" * 63, "0" * 64 + "\n", "0" * 63 + "/"])
def test_only_digests_are_names(vault: Vault, name: str) -> None:
    for act in (vault.get, vault.forget, lambda each: vault.find(each, ENGINE), lambda each: vault.draft(each, ENGINE)):
        with pytest.raises(ValueError, match="64 hex digits"):
            act(name)


def test_fingerprints_never_reach_a_path(vault: Vault) -> None:
    made = sealed(vault, fingerprint="../../x")
    assert made.code.parent == vault.code


def test_forgetting_removes_upload_and_code(vault: Vault) -> None:
    vault.put(b"an upload")
    sealed(vault)
    sealed(vault, fingerprint="engine 2")
    assert vault.size() > 2 * len(CODE)
    vault.forget(DIGEST)
    assert vault.size() == 0
    vault.forget(DIGEST)


def test_what_killed_processes_left_is_removed_at_the_start(vault: Vault, tmp_path: Path) -> None:
    sealed(vault)
    vault.draft(DIGEST, "engine 2").write_bytes(b"half")
    (vault.code / ("1" * 64 + "-" + "0" * 16 + ".cwasm")).write_bytes(b"no seal")
    (tmp_path / "vault" / "artefacts" / "x.tmp").write_bytes(b"half")
    again = Vault(tmp_path / "vault", KEY)
    assert len(files(tmp_path / "vault")) == 2
    assert again.find(DIGEST, ENGINE) is not None


@pytest.mark.slow
def test_a_kill_in_the_middle_leaves_no_half_upload(tmp_path: Path) -> None:
    for _ in range(3):
        with subprocess.Popen(
            [sys.executable, str(CHILD), str(tmp_path)], stdout=subprocess.PIPE, text=True
        ) as process:
            assert process.stdout
            assert process.stdout.readline() == "begun\n"
            while not any((tmp_path / "artefacts").glob("*.tmp")):
                pass
            process.kill()
    vault = Vault(tmp_path, KEY)
    assert all(vault.get(digest) for digest in vault.digests())
    assert set(files(tmp_path)) == vault.digests()


def test_nobody_else_may_look(vault: Vault, tmp_path: Path) -> None:
    made = sealed(vault)
    for path in (vault.code, tmp_path / "vault" / "artefacts"):
        assert stat.S_IMODE(path.stat().st_mode) == 0o700
    assert stat.S_IMODE(made.code.stat().st_mode) == 0o600


def test_a_key_is_made_once(tmp_path: Path) -> None:
    path = tmp_path / "functions" / "key"
    key = read_key(path)
    assert len(key) == 32
    assert key == read_key(path) != read_key(tmp_path / "other")
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


def test_a_key_that_is_none_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "key"
    path.write_bytes(b"short")
    path.chmod(0o600)
    with pytest.raises(ConfigError, match="32 bytes, not 5"):
        read_key(path)
    path.write_bytes(b"k" * 32)
    path.chmod(0o644)
    with pytest.raises(ConfigError, match="chmod 600"):
        read_key(path)
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(ConfigError, match=str(path)):
        read_key(path)


def test_a_copy_is_compared_and_stays_as_it_is(vault: Vault) -> None:
    made = sealed(vault)
    code = made.code.read_bytes()
    copy = copied(made)
    made.code.write_bytes(b"evil")
    with os.fdopen(copy, "rb") as file:
        assert file.read() == code
    with pytest.raises(FunctionFault, match="altered on disk"):
        copied(made)
    made.code.unlink()
    with pytest.raises(FunctionFault, match="cannot be read"):
        copied(made)
