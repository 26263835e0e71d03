"""The benchmark runs and its layers are what lax computes; what our layers compile to is what a CPU is good at."""

import dataclasses
import functools
import itertools
import json
import re
import sys
import time
from collections import Counter

import jax
import jax.numpy as jnp
import pytest

from experiments import bench_layers
from experiments.bench_layers import FAMILY, LAYERS


def compiled(layer, function, part="all"):
    arguments = [jax.ShapeDtypeStruct(shape, layer.dtype) for shape in layer.shapes()]
    return jax.jit(layer.part(function, part)).lower(*arguments).compile()


@pytest.mark.parametrize("layer", [layer for layer in LAYERS if not layer.guard], ids=lambda layer: layer.name)
def test_what_a_layer_compiles_to(layer):
    ours, plain = (compiled(layer, function) for function in (layer.ours, layer.plain))
    text = ours.as_text()
    assert "select-and-scatter(" not in text
    assert not re.search(r"\bscatter\(", text)
    assert "batch_group_count" not in text
    assert "lhs_dilate" not in text
    assert ours.memory_analysis().temp_size_in_bytes <= 1.1 * plain.memory_analysis().temp_size_in_bytes + 2**16


@pytest.mark.parametrize("layer", FAMILY, ids=lambda layer: layer.name)
def test_what_the_family_compiles_to(layer, quick_compilation):
    # Traced alone: what XLA makes of it is tested on the layers above.
    arguments = [jax.ShapeDtypeStruct(shape, layer.dtype) for shape in layer.shapes()]
    text = (
        jax.jit(layer.part(layer.ours, layer.parts[0])).trace(*arguments).lower(lowering_platforms=("cpu",)).as_text()
    )
    assert "select_and_scatter" not in text
    assert "stablehlo.scatter" not in text
    assert "batch_group_count = 1 " in text or "stablehlo.convolution" not in text
    assert not re.search(r"lhs_dilate = \[[^\]]*[2-9]", text)
    assert len(text.splitlines()) < 7000  # 31x31: three forms with 31 taps written out each; 961 would be 60,000


@pytest.mark.parametrize("layer", [layer for layer in FAMILY if layer.x[0] * layer.x[1] <= 100], ids=lambda l: l.name)
def test_layers_are_laxs(layer, quick_compilation):
    assert bench_layers.verify(dataclasses.replace(layer, dtype="float64")) < 1e-12


def test_the_command(tmp_path, monkeypatch, capsys):
    arguments = ["bench_layers", "--only", "guard: tiny", "--rounds", "1", "--output", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", arguments)
    assert bench_layers.main() == 0
    assert "geometric means" in capsys.readouterr().out
    record = json.loads((tmp_path / "bench_layers.json").read_text())
    assert [result["part"] for result in record["results"]] == ["fwd", "all"]
    assert all(result["lax_ratio"] > 0 for result in record["results"])
    assert (tmp_path / "bench_layers.png").stat().st_size > 0


def test_the_time_to_compile(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_layers", "--only", "guard: tiny", "--rounds", "2", "--compile"])
    assert bench_layers.main() == 0
    printed = capsys.readouterr().out
    assert "ours/lax" in printed
    assert "guard: tiny" in printed
    layer = next(layer for layer in bench_layers.FAMILY if layer.name == "float64")
    found = bench_layers.time_compilation(layer, 1)
    assert found["ratio"] == found["ours_compile_s"] / found["lax_compile_s"] > 0
    assert found["ours_temporary_bytes"] > 0


def test_the_command_refuses_no_layer(monkeypatch, capsys):
    monkeypatch.setattr(sys, "argv", ["bench_layers", "--only", "nothing of this name"])
    assert bench_layers.main() == 2
    assert "expected part of a name" in capsys.readouterr().err


def test_the_limits_count_products_once():
    layer = bench_layers.Layer("one", "conv", (2, 4, 4, 3), (3, 3), 5, padding="VALID")
    assert layer.limits("fwd") == (2 * 2 * 2 * 2 * 9 * 3 * 5, 4 * (96 + 40))
    assert layer.limits("all")[0] == 3 * layer.limits("fwd")[0]
    assert jnp.isclose(bench_layers.geometric_mean([2.0, 8.0]), 4.0)


def test_every_side_comes_after_every_other_equally_often(monkeypatch):
    monkeypatch.setattr(bench_layers, "WARM", 0)
    made = []

    def call(side):
        made.append(side)
        time.sleep(0.003)

    calls = {side: functools.partial(call, side) for side in ("ours", "lax", "torch")}
    bench_layers.medians(calls, rounds=6)
    assert len(made) == 7 * 3
    after = Counter(pair for pair in itertools.pairwise(made[2:]) if pair[0] != pair[1])
    assert set(after.values()) == {3}
    assert len(after) == 6


@pytest.mark.parametrize(("seconds", "calls"), [(0, 20 + 1), (0.005, 2 + 1)])
def test_short_calls_have_more_rounds(monkeypatch, seconds, calls):
    monkeypatch.setattr(bench_layers, "WARM", 0)
    made = []

    def call():
        made.append(seconds)
        time.sleep(seconds)

    assert bench_layers.medians({"ours": call}, rounds=2)["ours"] >= seconds
    assert len(made) == calls


def test_a_side_runs_for_a_while_before_it_is_timed(monkeypatch):
    monkeypatch.setattr(bench_layers, "WARM", 0.02)
    waits = []

    def call():
        waits.append(time.perf_counter())
        time.sleep(0.004)

    bench_layers.medians({"ours": call}, rounds=2)
    # One call in the first round, which is not timed; in the two others as many as take 20 ms, and the timed one.
    assert 1 + 2 * (1 + 1) <= len(waits) <= 1 + 2 * (5 + 1)
    assert waits[-1] - waits[1] >= 2 * 0.02
