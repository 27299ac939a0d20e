"""Artifacts: a directory with safetensors and JSON, local or on the hub."""

import hashlib
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save
from torch import Tensor

import emoq_plugin
from emoq_plugin import pretrained
from emoq_plugin.core.model_card import describe
from emoq_plugin.files import atomic_write, read_json, write_json
from emoq_plugin.optional import needs

CONFIG = "config.json"
WEIGHTS = "model.safetensors"
CARD = "README.md"
GOLDEN = "golden"  # in the config: codes that its maker got, see core.golden
POSITIVE = ("normalization.scale", "clip_code.scale")
SUBWORDS = "subwords.model"  # of its units, where they were learned


def fingerprint_of_tensors(
    tensors: Mapping[str, Tensor], names: Sequence[str] = ()
) -> str:
    """Return the SHA-256 over names, shapes and float32 contents."""
    digest = hashlib.sha256(repr(list(names)).encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"{name} {tuple(tensor.shape)}".encode())
        array = tensor.detach().to("cpu", torch.float32).contiguous().numpy()
        digest.update(array.tobytes())
    return digest.hexdigest()


class Artifact:
    """What can be saved and loaded: gives `config`, `tensors` and `from_config`."""

    def config(self) -> dict[str, Any]:
        """Return everything that is not a tensor, for JSON."""
        raise TypeError(f"{type(self).__name__} has no config")

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name."""
        raise TypeError(f"{type(self).__name__} has no tensors")

    def stored(self) -> dict[str, Tensor]:
        """Return the tensors as a file holds them, from which they can be made."""
        return self.tensors()

    def golden(self) -> dict[str, list[str]]:
        """Return the codes of golden frames, see `core.golden`."""
        raise TypeError(f"{type(self).__name__} has no golden frames")

    @classmethod
    def from_config(cls, config: dict[str, Any], tensors: dict[str, Tensor]) -> Self:
        """Build the object again."""
        raise TypeError(f"{cls.__name__} cannot be built")

    @property
    def codebooks_sha256(self) -> str:
        """SHA-256 in the config, checked after every load."""
        raise TypeError(f"{type(self).__name__} has no codebooks")

    def save_pretrained(self, directory: str | Path) -> None:
        """Write config.json, model.safetensors and the card README.md.

        Parameters
        ----------
        directory : str or Path
            Made when missing. Every file is written aside and renamed; the config
            comes last, so that a directory without it is not an artifact.
        """
        directory = Path(directory)
        with atomic_write(directory / WEIGHTS, "wb") as stream:
            tensors = {k: v.detach().contiguous() for k, v in self.stored().items()}
            stream.write(save(tensors, {"format": "pt"}))
        config = {
            "type": type(self).__name__,
            "emoq_version": emoq_plugin.__version__,
            **self.config(),
            GOLDEN: self.golden(),
        }
        with atomic_write(directory / CARD) as stream:
            stream.write(describe(config))
        write_json(directory / CONFIG, config)

    @classmethod
    def from_pretrained(cls, name: str | Path, *, revision: str | None = None) -> Self:
        """Load from a directory or a hub repository and verify the codebooks.

        Parameters
        ----------
        name : str or Path
            Directory, or ``owner/name`` on the hub.
        revision : str, optional
            Of the hub repository.

        Raises
        ------
        ValueError
            If a file is missing or damaged, or a codebook is not the one in the config.
        """
        directory = local_directory(name, revision)
        for file in (CONFIG, WEIGHTS):
            if not (directory / file).is_file():
                raise ValueError(f"{directory} is not an artifact: {file} is missing")
        config = read_json(directory / CONFIG)
        if not isinstance(config, dict) or config.get("type") != cls.__name__:
            found = config.get("type") if isinstance(config, dict) else config
            raise ValueError(
                f"{directory / CONFIG}: type is {found!r}, expected '{cls.__name__}'"
            )
        try:
            tensors = load_file(directory / WEIGHTS)
            _check_numbers(tensors)
            loaded = cls.from_config(config, tensors)
            expected, found = config["codebooks_sha256"], loaded.codebooks_sha256
        except (
            SafetensorError, LookupError, TypeError, ValueError, AttributeError,
            ArithmeticError, MemoryError, RuntimeError,
        ) as error:  # fmt: skip
            raise ValueError(
                f"{directory}: damaged artifact, {WEIGHTS} and {CONFIG} do not fit: "
                f"{type(error).__name__} {error}"
            ) from error
        if found != expected:
            raise ValueError(
                f"{directory / WEIGHTS}: codebooks have sha256 {found}, "
                f"{CONFIG} says {expected}: the file was changed or damaged, "
                "get it again"
            )
        logging.debug("read %s", directory)
        return loaded

    def push_to_hub(self, repo_id: str, *, private: bool = True) -> str:
        """Upload to the Hugging Face hub; gives the address of the commit."""
        import tempfile

        with needs("huggingface"):
            from huggingface_hub import HfApi

        api = HfApi()
        api.create_repo(repo_id, private=private, exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            self.save_pretrained(folder)
            return str(api.upload_folder(repo_id=repo_id, folder_path=folder))


def _check_numbers(tensors: Mapping[str, Tensor]) -> None:
    for name, tensor in tensors.items():
        if not name.startswith("router.") and tensor.dtype != torch.float32:
            raise ValueError(f"{name} is {tensor.dtype}, expected float32")
        if not tensor.isfinite().all():
            raise ValueError(f"{name} holds NaN or infinity")
        if name in POSITIVE and not (tensor > 0).all():
            raise ValueError(f"{name} is not positive")


def artifact_type(name: str | Path, *, revision: str | None = None) -> str:
    """Return the class of an artifact, from its config.

    Raises
    ------
    ValueError
        If there is no artifact.
    """
    path = local_directory(name, revision) / CONFIG
    if not path.is_file():
        raise ValueError(f"{path.parent} is not an artifact: {CONFIG} is missing")
    config = read_json(path)
    return str(config.get("type")) if isinstance(config, dict) else ""


def local_directory(
    name: str | Path, revision: str | None = None, token: str | bool | None = None
) -> Path:
    """Return the directory of an artifact, fetched from the hub if it is none.

    Parameters
    ----------
    name : str or Path
        Directory, a name of `emoq_plugin.pretrained`, or ``owner/name`` on the hub.
    revision : str, optional
    token : str or bool, optional
        See `emoq_plugin.load`.

    Raises
    ------
    ValueError
        For another name, or when it cannot be fetched.
    """
    if Path(name).is_dir():
        return Path(name)
    if name in (known := pretrained.names()):
        return pretrained.HOME / name
    parts = str(name).split("/")
    if len(parts) != 2 or not all(parts) or parts[0] in (".", ".."):
        raise ValueError(
            f"'{name}' is neither a directory, nor one that comes with the package "
            f"({', '.join(known)}), nor a hub name of the form owner/name"
        )
    with needs("huggingface"):
        from huggingface_hub import snapshot_download
        from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = snapshot_download(
            str(name),
            revision=revision,
            token=token,
            allow_patterns=[CONFIG, WEIGHTS, CARD, SUBWORDS],
        )
    except (LocalEntryNotFoundError, HfHubHTTPError, OSError) as error:
        raise ValueError(
            f"'{name}' is no local directory and could not be fetched from the hub: "
            f"bring {CONFIG} and {WEIGHTS} in a directory and give its path ({error})"
        ) from error
    return Path(folder)
