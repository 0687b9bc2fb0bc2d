"""What a tier costs, against published counts and sums done by hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from scipy import stats
from timm.models.vision_transformer import VisionTransformer
from torch.utils.flop_counter import FlopCounterMode

from irepa.audit.statistics import correlation_power
from irepa.commands.counted import Counted
from irepa.commands.describe import EncoderFacts, ShapesAlone, describe_encoder
from irepa.commands.plan import Budget, feeding, summary
from irepa.config.load import load_settings
from irepa.pipeline.graph import Job
from irepa.pipeline.plan import Plan
from tests.conftest import WORKFLOW


@pytest.fixture(scope="module")
def smoke(tmp_path_factory: pytest.TempPathFactory) -> Budget:
    return Budget(Plan(load_settings({"tier": "smoke"}, WORKFLOW), tmp_path_factory.mktemp("empty")))


@pytest.fixture(scope="module")
def paper(tmp_path_factory: pytest.TempPathFactory) -> Budget:
    settings = load_settings({"tier": "imagenet256"}, WORKFLOW, check_options=False)
    return Budget(Plan(settings, tmp_path_factory.mktemp("empty")))


@pytest.mark.parametrize(
    ("scale", "giga_multiply_adds", "million"),
    [("sit-b-2", 23.01, 130), ("sit-l-2", 80.71, 458), ("sit-xl-2", 118.64, 675)],
)
def test_networks_have_the_published_size_and_arithmetic(
    paper: Budget, scale: str, giga_multiply_adds: float, million: float
) -> None:
    """DiT's published counts (Peebles and Xie, 2023, Table 1) and the paper's parameter counts."""
    parameters, flops = paper.network("sit", scale)
    assert flops / 2e9 == pytest.approx(giga_multiply_adds, rel=0.01)
    assert parameters / 1e6 == pytest.approx(million, rel=0.01)


def test_training_is_three_forward_passes_of_every_image_and_the_encoder_where_it_is_online(paper: Budget) -> None:
    images = 100_000 * 256
    forward = paper.network("sit", "sit-xl-2")[1]
    assert paper.cost(Job("train", "sit/sit-xl-2/none/none/seed0")).flops == images * 3 * forward
    conv = 2 * 256 * 9 * 1152 * 768  # a 3x3 convolution on 256 tokens, without its bias
    irepa = paper.cost(Job("train", "sit/sit-xl-2/dinov2-b/irepa/seed0")).flops
    assert paper.online("dinov2-b")
    assert irepa == pytest.approx(images * (3 * (forward + conv) + paper.encoder("dinov2-b").flops), rel=1e-3)


def test_disk_is_counted_to_the_byte(smoke: Budget, paper: Budget) -> None:
    assert summary(smoke, 1e12, 0.5)["stages"]["data"]["disk_bytes"] == (128 + 64) * 32 * 32 * 3
    assert smoke.cost(Job("features", "hog")).disk == (128 + 48) * 16 * 128 * 2
    # Section 9: patch tokens of a ViT-B for the training set in float16 are 0.5 TB.
    assert paper._cache_bytes("dinov2-b", 1_281_167) == pytest.approx(0.5e12, rel=0.01)
    assert paper.cost(Job("latents", "default")).disk == 1_281_167 * 8 * 32 * 32 * 4


def test_what_feeds_a_gpu_follows_from_its_images_per_second(paper: Budget) -> None:
    """SiT-B/2 on latents with DINOv2-B online, by hand: each step reads moments of 32 KiB and an image of 192 KiB."""
    job = Job("train", "sit/sit-b-2/dinov2-b/repa/seed0")
    cost, rate = paper.cost(job), 400e12
    seconds = cost.flops / rate
    per_second = 100_000 * 256 / seconds
    raw, webp = (feeding(cost, paper.pixels, kind, seconds) for kind in ("raw", "webp"))
    assert raw["bytes_per_gpu_second"] == pytest.approx(per_second * (32 + 192) * 1024)
    assert raw["cores_per_gpu"] == 0
    assert webp["bytes_per_gpu_second"] == pytest.approx(per_second * (32 + 0.45 * 192) * 1024)
    assert webp["cores_per_gpu"] == pytest.approx(per_second * 1.5e-3, rel=0.01)
    assert feeding(paper.cost(Job("data")), paper.pixels, "raw", 0)["core_hours"] == pytest.approx(1.1, rel=0.02)
    alone = paper.cost(Job("train", "sit/sit-b-2/none/none/seed0"))
    assert (alone.images, alone.read) == (0, 100_000 * 256 * 32 * 1024)
    jit = paper.cost(Job("train", "jit/jit-b-16/none/none/seed0"))
    assert (jit.images, jit.read) == (100_000 * paper.tier.training_of("jit").batch, 0)


def test_weights_on_the_way_cost_the_steps_over_which_their_rate_falls() -> None:
    """192,000 images, and what 32,000, 64,000 and 128,000 end with, of each of which the last quarter is a branch."""
    settings = load_settings({"tier": "cifar10"}, WORKFLOW, check_options=False)
    budget = Budget(Plan(settings, WORKFLOW.parent))
    long, alone = (budget.cost(Job("train", f"{name}/medium/none/none/seed0")) for name in ("jit-long", "jit"))
    branches = (2_000 + 4_000 + 8_000) // 4
    assert long.flops / alone.flops == pytest.approx((12_000 + branches) / 4_000, rel=1e-3)


def test_what_has_been_counted_is_not_counted_again_and_other_settings_are(tmp_path: Path) -> None:
    asked: list[int] = []

    def count(settings: object) -> tuple[int, int]:
        def counts() -> tuple[int, int]:
            asked.append(1)
            return 3, 4

        counted = Counted(tmp_path / "counted.json")
        facts = counted.of(tuple[int, int], settings, ("architectures", "sit"), counts)
        counted.keep()
        return facts

    assert [count({"depth": 2}), count({"depth": 2}), count({"depth": 3})] == [(3, 4)] * 3
    assert len(asked) == 2
    (tmp_path / "counted.json").write_text("{")
    assert count({"depth": 2}) == (3, 4)
    assert len(asked) == 3
    facts = describe_encoder("hog", load_settings({"tier": "smoke"}, WORKFLOW).catalogue, (4, 4), 32, 32)
    for _ in range(2):
        counted = Counted(tmp_path / "counted.json")
        assert counted.of(EncoderFacts, "hog", ("encoders", "hog-blocks"), lambda: facts) == facts
        counted.keep()


def test_what_is_passed_over_changes_no_count_and_no_shape() -> None:
    with torch.device("meta"):
        network = VisionTransformer(img_size=16, patch_size=4, embed_dim=16, depth=2, num_heads=2, num_classes=3)
        images = torch.zeros(2, 3, 16, 16)
    with torch.no_grad(), FlopCounterMode(display=False) as whole:
        shape = network(images).shape
    with torch.no_grad(), ShapesAlone(), FlopCounterMode(display=False) as counted:
        assert network(images).shape == shape == (2, 3)
    assert counted.get_total_flops() == whole.get_total_flops() > 0


def test_the_total_is_the_sum_and_experiments_share(smoke: Budget) -> None:
    found = summary(smoke, 1e12, 0.5)
    assert found["total"]["jobs"] == len(smoke.plan.jobs())
    assert found["total"]["flops"] == pytest.approx(sum(row["flops"] for row in found["stages"].values()))
    assert found["total"]["gpu_hours"] == pytest.approx(found["total"]["flops"] / 0.5e12 / 3600)
    alone = [row["alone"]["flops"] for row in found["experiments"].values()]
    assert max(alone) <= found["total"]["flops"] < sum(alone)
    assert all(row["cheapest"]["flops"] <= row["alone"]["flops"] for row in found["experiments"].values())
    assert found["online"] == []


def test_the_cheapest_subset_keeps_a_member_of_every_family(paper: Budget) -> None:
    kept = paper.cheapest("e1-correlation-xl")
    families = {paper.settings.catalogue[name].family for name in paper.tier.encoders}
    assert {paper.settings.catalogue[cell.encoder].family for cell in kept} == families
    assert len(kept) == len(families)
    assert {cell.encoder for cell in kept} >= {"dinov2-b", "dinov3-b", "webssl-300m"}
    mixing = paper.cheapest("e2-cls-mixing")
    assert len(mixing) == 6


def test_power_is_what_a_simulation_finds() -> None:
    rng = np.random.default_rng(0)
    n, r = 20, 0.6
    x = rng.normal(size=(4000, n))
    y = r * x + np.sqrt(1 - r**2) * rng.normal(size=(4000, n))
    found = np.mean([stats.pearsonr(a, b).pvalue < 0.05 for a, b in zip(x, y, strict=True)])
    assert correlation_power(r, n) == pytest.approx(found, abs=0.03)
    assert correlation_power(0.85, 3) == 0.0
