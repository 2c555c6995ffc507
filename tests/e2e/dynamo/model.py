"""The model folder that Dynamo's mocker serves: a tokenizer trained on the spot, a config, a chat template. No weights.

Run with the interpreter of `requirements/dynamo.txt` (it needs `tokenizers`).
"""

import json
import re
from pathlib import Path
from pydoc_data.topics import topics  # English text that every Python carries: nothing to bundle or download

from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

BOS, EOS, HEADER, END_HEADER, TURN = "<s>", "</s>", "<|header|>", "<|/header|>", "<|turn|>"

CHAT_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    f"{HEADER}{{{{ message['role'] }}}}{END_HEADER}{{{{ message['content'] }}}}{TURN}"
    "{% endfor %}{% if add_generation_prompt %}"
    f"{HEADER}assistant{END_HEADER}"
    "{% endif %}"
)

DRAWN = range(1000, 2000)
"""The ids that the mocker's answers are drawn from, whatever the vocabulary is."""


def build(folder: Path, *, mean_length: int = 32, max_positions: int = 8192) -> None:
    """Write the files of a served model into `folder`.

    The mocker never ends an answer by itself (`finish_reason: length`, at `max_tokens`). So one in `mean_length` of the
    ids it draws counts as an end of sequence: the frontend then ends the answer with `stop`, as a model's own would.
    """
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=DRAWN.stop,
        special_tokens=[BOS, EOS, HEADER, END_HEADER, TURN],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),  # any text can be encoded
        show_progress=False,
    )
    tokenizer.train_from_iterator(
        (" ".join(re.findall(r"[A-Za-z]+[,.]?", topics[name])) for name in sorted(topics)), trainer
    )
    tokenizer.save(str(folder / "tokenizer.json"))
    ends = [tokenizer.token_to_id(EOS), *DRAWN[::mean_length]]
    ids = {"bos_token_id": tokenizer.token_to_id(BOS), "eos_token_id": ends}
    _write(folder / "generation_config.json", ids)
    _write(
        folder / "tokenizer_config.json",
        {
            "tokenizer_class": "PreTrainedTokenizerFast",
            "bos_token": BOS,
            "eos_token": EOS,
            "model_max_length": max_positions,
            "clean_up_tokenization_spaces": False,
            "chat_template": CHAT_TEMPLATE,
        },
    )
    _write(
        folder / "config.json",
        {
            **ids,
            "architectures": ["LlamaForCausalLM"],
            "model_type": "llama",
            "hidden_size": 64,
            "intermediate_size": 128,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_hidden_layers": 2,
            "rms_norm_eps": 1e-5,
            "max_position_embeddings": max_positions,
            "vocab_size": tokenizer.get_vocab_size(),
            "torch_dtype": "bfloat16",
        },
    )


def _write(path: Path, content: dict[str, object]) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
