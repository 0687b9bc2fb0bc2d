"""Encoders online and from a cache give the same tokens; a public SiT with time reversed gives the same flow."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch

from irepa.config.tier import Settings
from irepa.engine.targets import OnlineTokens, TokenCache, build_encoder, encode
from irepa.models.sit import SiT
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from irepa.pipeline.runner import Context
from irepa.recipes.sit import SiTRecipe
from irepa.stored import InMemory
from tests.conftest import REPOSITORY

CPU = torch.device("cpu")


def test_online_tokens_are_the_cached_ones_with_transforms(settings: Callable[..., Settings]) -> None:
    loaded = settings()
    tier = loaded.tier
    images = InMemory(np.random.default_rng(0).integers(0, 255, (6, 32, 32, 3)).astype(np.uint8))
    context = Context(Plan(loaded, REPOSITORY), Job("features", "effnet-lite0-s16"))
    encoder = build_encoder(context, "effnet-lite0-s16", CPU)
    every = np.arange(6, dtype=np.int64)
    (stored,) = encode(encoder, images, every, tier.features, tier.grid, CPU, "x")
    patch, pooled = stored.patch.half().numpy(), stored.global_token.half().numpy()
    transforms = (("clsmix", 0.3),)
    cached = TokenCache(InMemory(patch), InMemory(pooled), stored.grid, tier.grid, transforms)
    few = tier.features.model_copy(update={"batch": 2})
    online = OnlineTokens(encoder, images, few, tier.grid, transforms, patch.shape[2], CPU)
    chosen = np.array([4, 1, 5, 1, 0], np.int64)
    assert len(online) == len(cached) == 6
    torch.testing.assert_close(online[chosen], cached[chosen], rtol=2e-3, atol=2e-3)  # float16 of other batches


def test_a_network_that_has_data_at_1_gives_the_reversed_flow() -> None:
    """The original SiT's time runs the other way: its velocity is the negative at 1 - t."""
    torch.manual_seed(0)
    network = SiT((8, 8), 3, 2, depth=1, width=16, heads=2, patch=4, align_depth=1)
    for parameter in network.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    x, t, labels = torch.randn(4, 3, 8, 8), torch.rand(4), torch.tensor([0, 1, 2, 0])
    with torch.no_grad():
        velocity = SiTRecipe(data_at=1).velocity(network, labels)(x, t, t)
        torch.testing.assert_close(velocity, -network(x, 1 - t, labels)[0])
        seen, times = SiTRecipe(data_at=1).noised(x, torch.zeros_like(x), 0.25)
    torch.testing.assert_close(seen, 0.75 * x)
    torch.testing.assert_close(times, torch.full((4,), 0.75))
