"""How much a batch costs: as many operations for many clips as for few."""

from collections import Counter

import numpy as np
import pytest
from torch.utils._python_dispatch import TorchDispatchMode

from emoq_plugin.core import batch_encoding
from emoq_plugin.core.batch import as_batch
from emoq_plugin.estimator import EmoQuantizer
from emoq_plugin.routing.quantizer import RoutedQuantizer

# Operations whose result Python must read, or whose size depends on values.
WAITS = ("_local_scalar_dense", "nonzero", "_unique2", "masked_select")


class Counted(TorchDispatchMode):
    """Count operations; a `_local_scalar_dense` is a tensor that Python waits for."""

    def __init__(self):
        super().__init__()
        self.counts = Counter()

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        self.counts[func.overloadpacket.__name__] += 1
        return func(*args, **(kwargs or {}))


def ragged(n_clips, seed=0):
    random = np.random.default_rng(seed)
    return [random.normal(i % 2, 1, (int(t), 4)).astype(np.float32)
            for i, t in enumerate(random.integers(20, 60, n_clips))]  # fmt: skip


@pytest.fixture(scope="module")
def bank():
    clips = ragged(32)
    labels = ["angry" if i % 2 else "sad" for i in range(len(clips))]
    speakers = [f"s{i // 8}" for i in range(len(clips))]
    learned = EmoQuantizer(codebook_size=8, n_levels=3, router="calibrated", seed=0)
    return learned.fit(clips, labels, speakers=speakers).bank_


def count(quantizer, n_clips):
    """Count what one call of a padded batch does."""
    x, lengths, _ = as_batch(ragged(n_clips))
    quantizer(x, lengths)  # what is made once for all batches
    with Counted() as counted:
        found = quantizer(x, lengths)
    assert found.route.unique().numel() == 2, "a batch that goes to every expert"
    return counted.counts


@pytest.mark.parametrize("router", ["calibrated", "distortion"])
@pytest.mark.parametrize("static", [False, True], ids=["cpu", "as on a GPU"])
def test_operations_do_not_grow_with_the_number_of_clips(
    bank, router, static, monkeypatch
):
    monkeypatch.setattr(batch_encoding, "is_static", lambda x: static)
    quantizer = RoutedQuantizer(bank, f"specific-{router}", depth=1)
    few, many = count(quantizer, 8), count(quantizer, 64)
    assert few == many
    if static:  # the two checks: frames are finite, codes are inside their codebooks
        waits = {name: many[name] for name in WAITS if many[name]}
        assert waits == {"_local_scalar_dense": 2}
