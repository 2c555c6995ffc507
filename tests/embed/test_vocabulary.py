import threading
from pathlib import Path

import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, trainers

from edgecache import config
from edgecache.embed.vocabulary import Vocabulary, read
from edgecache.errors import ConfigError


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A byte-level BPE vocabulary of words, whose file says to cut at four tokens and to fill up to sixteen."""
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=400,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=["<s>"],
        show_progress=False,
    )
    tokenizer.train_from_iterator(["the cat sat on the mat"] * 50, trainer)
    tokenizer.enable_truncation(4)
    tokenizer.enable_padding(length=16)
    path = tmp_path_factory.mktemp("model") / "tokenizer.json"
    tokenizer.save(str(path))
    return path


def upstream(name: str, *served: config.UpstreamModel) -> config.Upstream:
    return config.Upstream(name=name, url="http://127.0.0.1:1", model=served)


def test_all_tokens_count_and_nothing_is_filled_up(file: Path) -> None:
    vocabulary = Vocabulary(str(file))
    assert vocabulary.count("the cat") == 2
    assert vocabulary.count(" the cat" * 100) == 200
    assert vocabulary.count("") == 0


def test_any_text_can_be_counted(file: Path) -> None:
    vocabulary = Vocabulary(str(file))
    assert vocabulary.count("né 猫 \ud800 \x00") > 4


def test_several_threads_count_at_once(file: Path) -> None:
    vocabulary = Vocabulary(str(file))
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(vocabulary.count(" the cat" * 2000))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(30)
    assert found == [4000] * 4


@pytest.mark.parametrize("content", [None, b"", b"{}", b"\xff"])
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, content: bytes | None) -> None:
    path = tmp_path / "tokenizer.json"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"upstream\.model\.tokenizer: .*tokenizer\.json"):
        Vocabulary(str(path))


def test_each_model_has_the_first_vocabulary_that_is_named_for_it_and_files_are_shared(
    file: Path, tmp_path: Path
) -> None:
    other = tmp_path / "tokenizer.json"
    other.write_bytes(file.read_bytes())
    found = read(
        [
            upstream("a", config.UpstreamModel(name="one", tokenizer=str(file)), config.UpstreamModel(name="none")),
            upstream(
                "b",
                config.UpstreamModel(name="one", tokenizer=str(other)),
                config.UpstreamModel(name="two", tokenizer=str(file)),
            ),
        ]
    )
    assert found.keys() == {"one", "two"}
    assert found["one"] is found["two"]
