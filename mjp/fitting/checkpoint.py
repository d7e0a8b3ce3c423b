"""Long runs on disk: what a chain has drawn so far, and the state from which it goes on."""

import json
import os
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


class Checkpoint:
    """A directory with one file per chain, replaced as a whole after every block of draws.

    Raises:
        ValueError: the directory holds a run with other settings.
    """

    def __init__(self, directory: str | Path, settings: dict[str, Any]):
        self.directory = Path(directory)
        self.directory.mkdir(parents=True, exist_ok=True)
        file = self.directory / "settings.json"
        if file.exists():
            found = json.loads(file.read_text())
            different = [key for key in settings if found.get(key) != settings[key]]
            if different:
                key = different[0]
                raise ValueError(
                    f"checkpoint: {self.directory} holds a run with {key}={found.get(key)!r}, but this one "
                    f"has {key}={settings[key]!r}; choose another directory or the same settings"
                )
        else:
            _write(file, json.dumps(settings, indent=1).encode())

    def save(self, chain: int, done: int, state: Any, draws: list[Any]) -> None:
        """Store a chain that has made `done` iterations, with the blocks of draws it has kept."""
        arrays = {f"state{i}": _to_numpy(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        if draws:
            joined = jax.tree.map(lambda *blocks: np.concatenate(blocks), *draws)
            arrays |= {f"draw{i}": np.asarray(leaf) for i, leaf in enumerate(jax.tree.leaves(joined))}
        partial = self.directory / f"chain{chain}.npz.partial"
        with partial.open("wb") as file:
            np.savez(file, allow_pickle=False, done=np.asarray(done), **arrays)
        # a rename is atomic, so a killed run never leaves half a file
        os.replace(partial, self.directory / f"chain{chain}.npz")

    def load(self, chain: int, state: Any, draw: Any) -> tuple[int, Any, list[Any]] | None:
        """Iterations done, state and draws of a chain, or None; `state` and `draw` give the structure."""
        file = self.directory / f"chain{chain}.npz"
        if not file.exists():
            return None
        with np.load(file) as arrays:
            leaves, structure = jax.tree.flatten(state)
            restored = [_from_numpy(arrays[f"state{i}"], leaf) for i, leaf in enumerate(leaves)]
            draws = []
            if "draw0" in arrays:
                shapes, draw_structure = jax.tree.flatten(draw)
                draws = [draw_structure.unflatten([arrays[f"draw{i}"] for i in range(len(shapes))])]
            return int(arrays["done"]), structure.unflatten(restored), draws


def _is_key(leaf: Any) -> bool:
    return jnp.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _to_numpy(leaf: Any) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _from_numpy(array: np.ndarray, like: Any) -> Any:
    return jax.random.wrap_key_data(jnp.asarray(array)) if _is_key(like) else jnp.asarray(array, like.dtype)


def _write(file: Path, content: bytes) -> None:
    partial = file.with_suffix(file.suffix + ".partial")
    partial.write_bytes(content)
    os.replace(partial, file)
