"""Text of Whisper's own decoder, from the states of its encoder."""

from collections.abc import Sequence
from pathlib import Path

import torch
from torch import Tensor

from emoq_plugin.devices import exact_float32
from emoq_plugin.optional import needs
from emoq_plugin.speech.encoders.layers import hub_directory
from emoq_plugin.speech.encoders.model_files import how_to_bring, naming_faults

TOKENIZER = "tokenizer.json"
FILES = f"config.json, model.safetensors and {TOKENIZER}"
START, END = "<|startoftranscript|>", "<|endoftext|>"


class WhisperDecoder:
    """Greedy transcription of encoder states, without timestamps.

    Parameters
    ----------
    model : str
        Name of a published Whisper model, or a local directory.
    language : str
        Code of the language that is spoken, such as ``de``.
    max_tokens : int, default=100
        Where a text is cut: on states that hold no words a decoder goes on and on.
    device : str, default="cpu"

    Raises
    ------
    ValueError
        If the model cannot be loaded, has no tokenizer or does not know the language.
    """

    def __init__(
        self, model: str, language: str, *, max_tokens: int = 100, device: str = "cpu"
    ):
        with needs("words"):
            from tokenizers import Tokenizer
            from transformers import WhisperForConditionalGeneration
        root = hub_directory(model, files=FILES, only=["*.json"])
        if not (root / TOKENIZER).is_file():
            raise ValueError(
                how_to_bring(
                    model,
                    f"it has no {TOKENIZER}, without which tokens are no words",
                    files=FILES,
                )
            )
        patterns = ("*.json", "*.safetensors")
        with naming_faults(model, root, files=FILES, patterns=patterns):
            self._tokenizer = Tokenizer.from_file(str(root / TOKENIZER))
            loaded = WhisperForConditionalGeneration.from_pretrained(
                model, dtype=torch.float32, trust_remote_code=False
            )
        self._model = loaded.to(device).eval()
        self._prompt = self._find_prompt(language, root)
        [self._end] = self._ids([END], root)
        added = self._tokenizer.get_added_tokens_decoder()
        # Only words and the end may follow the prompt.
        self._barred = [n for n in added if n != self._end]
        room = loaded.config.max_target_positions - len(self._prompt)
        self._max_tokens = min(max_tokens, room)

    def _find_prompt(self, language: str, root: Path) -> list[int]:
        names = [START, f"<|{language}|>", "<|transcribe|>", "<|notimestamps|>"]
        if self._tokenizer.token_to_id(names[1]) is None:
            known = sorted(
                token.content[2:-2]
                for token in self._tokenizer.get_added_tokens_decoder().values()
                if len(token.content) in (6, 7)
            )
            raise ValueError(
                f"language '{language}' is unknown to {root / TOKENIZER}, expected one "
                f"of: {' '.join(known)}"
            )
        return self._ids(names, root)

    def _ids(self, names: Sequence[str], root: Path) -> list[int]:
        found = {name: self._tokenizer.token_to_id(name) for name in names}
        if absent := [name for name, number in found.items() if number is None]:
            raise ValueError(
                f"{root / TOKENIZER} has no token '{absent[0]}': it is not the "
                "tokenizer of a multilingual Whisper model"
            )
        return list(found.values())

    @exact_float32()
    @torch.inference_mode()
    def __call__(self, states: Tensor) -> list[str]:
        """Transcribe.

        Parameters
        ----------
        states : (B, T, D) tensor
            Last layer of the encoder over its whole window, T = 1500: with frames of
            silence cut away the decoder does not find the end.

        Returns
        -------
        list of B str
        """
        device = self._model.device
        tokens = torch.tensor([self._prompt] * len(states), device=device)
        texts = tokens[:, :0]
        ended = torch.zeros(len(states), dtype=torch.bool, device=device)
        past = None
        for _ in range(self._max_tokens):
            out = self._model(
                encoder_outputs=(states.to(device),),
                decoder_input_ids=tokens,
                past_key_values=past,
                use_cache=True,
            )
            scores, past = out.logits[:, -1], out.past_key_values
            scores[:, self._barred] = -torch.inf
            best = torch.where(ended, self._end, scores.argmax(dim=1))
            texts, tokens = torch.cat([texts, best[:, None]], dim=1), best[:, None]
            ended |= best == self._end
            if ended.all():
                break
        rows = [[t for t in row if t != self._end] for row in texts.tolist()]
        return [text.strip() for text in self._tokenizer.decode_batch(rows)]
