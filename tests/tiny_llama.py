"""A random Llama of two layers that both llama.cpp and PyTorch read."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

HIDDEN, HEADS, KV_HEADS, FEED, LAYERS = 64, 4, 2, 96, 2
_TEMPLATE = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n"
    "{% endfor %}{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def _byte_letters() -> list[str]:
    """Return the letters that stand for bytes in GPT-2's vocabulary."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    hidden = [byte for byte in range(256) if byte not in shown]
    return [chr(byte) for byte in shown] + [chr(256 + n) for n in range(len(hidden))]


def write(path: Path, seed: int = 7) -> Path:
    rng = np.random.default_rng(seed)
    words = [*_byte_letters(), "<|im_start|>", "<|im_end|>", "Ġr", "et"]
    writer = gguf.GGUFWriter(path, "llama")
    writer.add_context_length(512)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_rope_freq_base(10000.0)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(words))
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(words)
    kinds = [gguf.TokenType.NORMAL] * 256 + [gguf.TokenType.CONTROL] * 2
    writer.add_token_types([*kinds, gguf.TokenType.NORMAL, gguf.TokenType.NORMAL])
    writer.add_token_merges(["Ġ r", "e t"])
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_chat_template(_TEMPLATE)

    def add(name: str, *size: int) -> None:
        scale = 1.0 if len(size) == 1 else 1.5 * size[1] ** -0.5
        numbers = np.ones(size) if len(size) == 1 else rng.normal(0, scale, size)
        writer.add_tensor(name, numbers.astype(np.float32))

    add("token_embd.weight", len(words), HIDDEN)
    add("output_norm.weight", HIDDEN)
    keys = HIDDEN // HEADS * KV_HEADS
    for n in range(LAYERS):
        add(f"blk.{n}.attn_norm.weight", HIDDEN)
        add(f"blk.{n}.ffn_norm.weight", HIDDEN)
        add(f"blk.{n}.attn_q.weight", HIDDEN, HIDDEN)
        add(f"blk.{n}.attn_k.weight", keys, HIDDEN)
        add(f"blk.{n}.attn_v.weight", keys, HIDDEN)
        add(f"blk.{n}.attn_output.weight", HIDDEN, HIDDEN)
        add(f"blk.{n}.ffn_gate.weight", FEED, HIDDEN)
        add(f"blk.{n}.ffn_up.weight", FEED, HIDDEN)
        add(f"blk.{n}.ffn_down.weight", HIDDEN, FEED)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
