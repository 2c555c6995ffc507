"""The cross-encoder while it learns: MiniLM over both questions, and a head that compares what became of each."""

import json
from pathlib import Path

import torch
from safetensors.torch import load_file
from tokenizers import Tokenizer
from torch import Tensor, nn
from transformers import BertConfig, BertModel

WINDOW = 160
"""Tokens of a pair in training; longer ones are left out."""


class Network(nn.Module):  # type: ignore[misc]  # torch is not followed by mypy here
    """Input `[CLS] a [SEP] b [SEP]`; output the logit of `the answer to a answers b`.

    With u and v the means over the tokens of a and of b, and c the first token, the head sees
    |u - v|, u * v and c; all but c do not depend on the order.
    """

    def __init__(self, folder: Path, dropout: float = 0.1) -> None:
        super().__init__()
        shape = json.loads((folder / "config.json").read_text())
        config = BertConfig(**{k: v for k, v in shape.items() if k not in {"architectures", "model_type"}})
        config.hidden_dropout_prob = config.attention_probs_dropout_prob = dropout
        config._attn_implementation = "sdpa"  # noqa: SLF001 - the documented way to choose it
        self.bert = BertModel(config, add_pooling_layer=False)
        self.bert.load_state_dict(
            {k: v for k, v in load_file(folder / "model.safetensors").items() if not k.startswith("pooler.")},
            strict=False,
        )
        width = config.hidden_size
        self.hidden = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, 1)
        self.drop = nn.Dropout(dropout)

    def forward(self, ids: Tensor, types: Tensor, mask: Tensor) -> Tensor:
        """Logits of a batch: ids, segment (0, 1) and mask of each token, padded to one length."""
        x = self.bert(input_ids=ids, token_type_ids=types, attention_mask=mask).last_hidden_state
        first = (mask * (1 - types)).unsqueeze(-1).to(x.dtype)
        second = (mask * types).unsqueeze(-1).to(x.dtype)
        u = (x * first).sum(1) / first.sum(1)
        v = (x * second).sum(1) / second.sum(1)
        both = torch.cat([(u - v).abs(), u * v, x[:, 0]], dim=1)
        return self.out(self.drop(nn.functional.gelu(self.hidden(self.drop(both))))).squeeze(1)


def tokenizer(folder: Path) -> Tokenizer:
    """The tokenizer of the embedder, without padding or cutting."""
    found = Tokenizer.from_file(str(folder / "tokenizer.json"))
    found.no_padding()
    found.no_truncation()
    return found


def collate(batch: list[tuple[list[int], list[int]]]) -> tuple[Tensor, Tensor, Tensor]:
    """Pad token ids and segments of a batch."""
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.zeros(len(batch), longest, dtype=torch.long)
    types, mask = torch.zeros_like(ids), torch.zeros_like(ids)
    for row, (tokens, segments) in enumerate(batch):
        ids[row, : len(tokens)] = torch.tensor(tokens)
        types[row, : len(tokens)] = torch.tensor(segments)
        mask[row, : len(tokens)] = 1
    return ids, types, mask
