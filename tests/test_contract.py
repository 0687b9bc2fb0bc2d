"""The contracts of encoders and datasets: the guide's example works, what breaks the contract is refused, entering is light."""

from __future__ import annotations

import hashlib
import textwrap
from collections.abc import Callable
from types import ModuleType, SimpleNamespace

import numpy as np
import pytest
import torch
from pydantic import BaseModel
from torch import Tensor, nn

import irepa.encoders
from irepa.commands.check import check_encoders
from irepa.commands.describe import describe_encoder, judge_flops
from irepa.config import plugins
from irepa.config.tier import EncoderEntry, Settings
from irepa.encoders import Declared, Encoder, Judge, Judged, Library, NetworkEncoder, NetworkOptions, library
from irepa.errors import ConfigError
from irepa.images import standardise
from irepa.tokens import Tokens

GRID, CPU = (4, 4), torch.device("cpu")


def images(count: int = 2, size: int = 16) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(0, 256, (count, 3, size, size), dtype=torch.uint8, generator=generator)


def add(monkeypatch: pytest.MonkeyPatch, **names: object) -> EncoderEntry:
    """Put a module with these names where ``library: own`` finds it; its row."""
    module = ModuleType("irepa.encoders.own")
    vars(module).update(names)
    load = plugins.load
    monkeypatch.setattr(plugins, "load", lambda kind, name, where: module if name == "own" else load(kind, name, where))
    return EncoderEntry.model_validate({"library": "own", "family": "own"})


def test_the_guides_example_is_an_encoder(monkeypatch: pytest.MonkeyPatch) -> None:
    guide = irepa.encoders.__doc__
    assert guide is not None
    source = textwrap.dedent(guide.split("mean_colour.py``::")[1].split("\nThe row ``mean-colour:")[0])
    names: dict[str, object] = {}
    exec(compile(source, "mean_colour.py", "exec"), names)
    add(monkeypatch, **names)
    row = EncoderEntry.model_validate({"library": "own", "family": "handcrafted", "contrast": 2})
    assert row.options() == {"contrast": 2}
    encoder = Declared.of("mean-colour", row, 256).encoder(GRID, CPU)
    tokens = encoder(images())
    block = images()[1, :, 4:8, 8:12].double() / 255  # row 1, column 2
    torch.testing.assert_close(tokens.patch[1, 4 + 2].double(), 2 * block.mean(dim=(1, 2)))
    assert tokens.global_token is None
    assert encoder.weights_sha256() is None
    facts = describe_encoder("mean-colour", {"mean-colour": row}, GRID, 32, None)
    assert (facts.grid, facts.dim, facts.parameters, facts.prefix, facts.input_size) == (GRID, 3, 0, 0, None)
    with pytest.raises(ConfigError, match=r"encoders\.yaml: mean-colour: library own gives no pooled feature"):
        Declared.of("mean-colour", row, None).judge(CPU)


class Row(Encoder):
    """Gives tokens in a row, as many as asked for, and a global token if asked to."""

    def forward(self, images: Tensor) -> Tokens:
        count, whole = self.options.count, self.options.whole
        return Tokens(torch.zeros(len(images), count, 2), self.grid, torch.zeros(len(images), 2) if whole else None)


def test_tokens_that_break_the_contract_are_refused() -> None:
    Row(SimpleNamespace(count=16, whole=False), GRID, CPU)(images())
    with pytest.raises(ConfigError, match=r"encoder class Row: tokens of shape \(2, 15, 2\) on a grid of \(4, 4\)"):
        Row(SimpleNamespace(count=15, whole=False), GRID, CPU)(images())
    with pytest.raises(ConfigError, match="encoder class Row: has_global_token = False is not what it gives"):
        Row(SimpleNamespace(count=16, whole=True), GRID, CPU)(images())


class Halves(NetworkEncoder):
    """A network of one layer on standardised pixels, two pixels per token."""

    def __init__(self, options: NetworkOptions, grid: tuple[int, int], device: torch.device) -> None:
        super().__init__(options, grid, device)
        torch.manual_seed(options.seed)
        self.network = nn.Conv2d(3, 5, 2, stride=2).to(device)
        self.input_size, self.mean, self.std = (2 * grid[0], 2 * grid[1]), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0)

    def forward(self, images: Tensor) -> Tokens:
        return Tokens(self.network(self.pixels(images)).flatten(2).transpose(1, 2), self.grid)


class Mean(Judge):
    def forward(self, images: Tensor) -> Judged:
        return Judged(images.float().mean(dim=(2, 3)))


def test_a_network_is_counted_hashed_and_described_without_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    add(monkeypatch, Options=NetworkOptions, LIBRARY=Library(encoder=Halves))
    row = EncoderEntry.model_validate({"library": "own", "family": "own", "model": "halves", "weights": "/nowhere"})
    encoder = Declared.of("halves", row, None).encoder(GRID, CPU)
    weight, bias = (value.detach().numpy() for value in (encoder.network.weight, encoder.network.bias))
    written = hashlib.sha256(b"bias" + bias.tobytes() + b"weight" + weight.tobytes())
    assert encoder.weights_sha256() == written.hexdigest()
    torch.testing.assert_close(
        encoder.pixels(images()), standardise(images(), (8, 8), (0.1, 0.2, 0.3), (1.0, 2.0, 3.0))
    )
    facts = describe_encoder("halves", {"halves": row}, GRID, 32, None)
    assert (facts.model, facts.parameters, facts.flops) == ("halves", 3 * 5 * 4 + 5, 2 * 16 * 5 * 12)
    assert (facts.mean, facts.std, facts.input_size) == ((0.1, 0.2, 0.3), (1.0, 2.0, 3.0), (8, 8))


def test_a_library_says_what_it_builds(monkeypatch: pytest.MonkeyPatch) -> None:
    options = type("Options", (BaseModel,), {})
    entry = add(monkeypatch, Options=options, LIBRARY=Library(judge=Mean, judge_flops=7.0))
    declared = Declared.of("mean", entry, None)
    judged = declared.judge(CPU)(images())
    np.testing.assert_allclose(judged.pooled.numpy(), images().numpy().mean(axis=(2, 3)), rtol=1e-6)
    assert judged.pooled.is_inference()
    assert judged.logits is None
    assert judge_flops("mean", entry, 32, None) == 7.0
    with pytest.raises(ConfigError, match="mean: library own gives no patch tokens: the row cannot be an alignment"):
        declared.encoder(GRID, CPU)
    with pytest.raises(
        ConfigError, match="mean: library own gives nothing that is fitted to another encoder: the row takes no"
    ):
        declared.fit(None, GRID, CPU)  # type: ignore[arg-type]
    add(monkeypatch, Options=options)
    with pytest.raises(ConfigError, match=r"encoders: x: irepa\.encoders\.own has no LIBRARY"):
        library("own", "encoders: x")


def test_what_a_library_does_not_give_is_refused_before_a_run(settings: Callable[..., Settings]) -> None:
    smoke = settings()
    check_encoders(smoke)
    unfit = {"encoders": [*smoke.tier.encoders, "effnet-lite0-s16-lds"]}
    row = smoke.catalogue["effnet-lite0-s16-lds"]
    no_base = smoke.catalogue | {"effnet-lite0-s16-lds": row.model_copy(update={"base": None})}
    with pytest.raises(ConfigError, match="hog: library hog-blocks gives no pooled feature"):
        settings(overrides={"evaluation.extractors": ["hog"]})
    with pytest.raises(ConfigError, match="library lds-tuned gives no patch tokens"):
        check_encoders(settings(**unfit).model_copy(update={"catalogue": no_base}))
    check_encoders(settings(**unfit))


@pytest.mark.parametrize("name", plugins.names("encoders"))
def test_every_library_builds_something(name: str) -> None:
    declared = library(name, name)
    assert declared.encoder or declared.judge or declared.fit
