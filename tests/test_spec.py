"""The branch grammar, the presets and the network's spec: what is accepted, what is refused and how."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from onebranch.errors import OnebranchError
from onebranch.spec.branch import parse
from onebranch.spec.network import BlockSpec, NetworkSpec, Skip, from_json, macs, parameters, to_json
from onebranch.spec.presets import PRESETS
from onebranch.spec.shorthand import BlockShorthand, NetworkShorthand, expand

pytestmark = pytest.mark.fast

odd = st.sampled_from([1, 3, 5, 7])
convolution = st.builds(
    lambda k, l, e, d, g, b: f"{k}x{l}{e} {d} {g} {b}",
    odd,
    odd,
    st.sampled_from(["", "*2", "*16"]),
    st.sampled_from(["", "d2", "d3"]),
    st.sampled_from(["", "dw", "g2"]),
    st.sampled_from(["", "nobias"]),
)
step = st.one_of(
    convolution, st.builds("avg{}x{}".format, odd, odd), st.sampled_from(["sobel_x", "sobel_y", "laplacian"])
)
branch = st.one_of(
    st.lists(st.builds(lambda s, bn: s + bn, step, st.sampled_from(["", " bn"])), min_size=1).map(" ".join),
    st.sampled_from(["identity", "identity bn"]),
)


@given(branch)
def test_text_and_value_are_one(text):
    parsed = parse(text)
    assert str(parsed) == " ".join(text.split())
    assert parse(str(parsed)) == parsed


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "empty"),
        ("1x1 " * 1001, "at most 1000"),
        ("9" * 5000 + "x3", "must be from 1 to 1000000"),
        ("3x3 d9999999", "must be from 1 to 1000000"),
        ("3x3 relu", "unknown word 'relu'"),
        ("2x3", "even side"),
        ("bn 3x3", "'bn' must follow"),
        ("3x3 bn bn", "'bn' must follow"),
        ("identity 3x3", "only 'bn' may follow"),
        ("3x3 identity", "'identity' must be the first word"),
        ("avg3x3 dw", "must follow a convolution"),
        ("3x3 d0", "at least 1"),
        ("3x3*0", "at least 1"),
        ("sobelx", "did you mean 'sobel_x'"),
        ("3x3dw", "unknown word '3x3dw'"),
    ],
)
def test_wrong_branches_are_named(text, message):
    with pytest.raises(OnebranchError, match=message.replace("*", r"\*")):
        parse(text)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"scale": 5}, "takes scale 2 or 3 or 4"),
        ({"task": "denoise"}, "takes scale 1"),
        ({"task": "downscale"}, "needs downsampling"),
        ({"downsampling": "average"}, "no downsampling layer"),
        ({"tail": BlockSpec(("3x3",), 4, "relu")}, "activation must be 'none'"),
        ({"tail": BlockSpec(("3x3",), 5, "none")}, "width must be 4"),
        ({"head": BlockSpec(("identity",), 8)}, "passes 1 channels on"),
        ({"head": BlockSpec((), 8)}, "at least one branch"),
        ({"head": BlockSpec(("3x3*2",), 8)}, "takes no '\\*expansion'"),
        ({"head": BlockSpec(("3x3 g3",), 8)}, "groups must divide both"),
        ({"skips": (Skip(1, 1),)}, "source < target"),
        ({"skips": (Skip(0, 3),)}, "<= 2"),
        (
            {"blocks": (BlockSpec(("3x3",), 8), BlockSpec(("3x3",), 6)), "skips": (Skip(0, 2),)},
            "equal widths",
        ),
    ],
)
def test_specs_that_do_not_fit_are_refused(change, message):
    good = dict(
        task="upscale",
        colour="y",
        scale=2,
        head=BlockSpec(("3x3",), 8),
        blocks=(BlockSpec(("3x3", "identity"), 8),) * 2,
        tail=BlockSpec(("3x3",), 4, "none"),
    )
    NetworkSpec(**good)
    with pytest.raises(OnebranchError, match=message):
        NetworkSpec(**{**good, **change})


@pytest.mark.parametrize("name", PRESETS)
def test_every_preset_builds_and_travels_as_json(name):
    spec = expand(NetworkShorthand(task="upscale", branches=name, depth=2, skips=(Skip(0, 2),)))
    assert from_json(to_json(spec)) == spec
    assert len(spec.blocks) == (4 if name == "mobileone" else 2)
    assert PRESETS[name].source


def test_a_concatenating_skip_widens_what_follows():
    spec = expand(
        NetworkShorthand(task="denoise", width=8, branches="plain", skips=(Skip(0, 4, "concatenate"),))
    )
    assert spec.input_widths == (1, 8, 8, 8, 8, 16)


def test_unknown_keys_in_json_are_named():
    text = to_json(expand(NetworkShorthand(task="denoise"))).replace('"width"', '"widht"', 1)
    with pytest.raises(OnebranchError, match="unknown key 'widht' in 'head'; did you mean 'width'"):
        from_json(text)
    with pytest.raises(OnebranchError, match="not valid JSON"):
        from_json("{")


def test_blocks_may_differ_in_width_branches_and_activation():
    blocks = (BlockShorthand(repeat=2), BlockShorthand(branches=("5x5",), width=8, activation="silu"))
    spec = expand(NetworkShorthand(task="denoise", width=4, branches=("3x3", "identity"), blocks=blocks))
    assert [b.width for b in spec.all_blocks] == [4, 4, 4, 8, 1]
    assert spec.head.branches == ("3x3",)
    assert spec.blocks[2].activation == "silu"


def test_parameters_and_macs_of_a_plain_network_are_those_counted_by_hand():
    spec = expand(NetworkShorthand(task="upscale", width=16, depth=4, branches="plain"))
    by_hand = (9 * 16 + 16) + 4 * (9 * 256 + 16) + (9 * 64 + 4) + 5 * 16
    assert parameters(spec) == by_hand
    assert macs(spec) == 9 * 16 + 4 * 9 * 256 + 9 * 64


@pytest.mark.parametrize(
    ("network", "message"),
    [
        ({"depth": 10**9}, "depth must be at most 1000"),
        ({"depth": -1}, "depth must be at least 0"),
        ({"blocks": (BlockShorthand(repeat=-1),)}, "repeat must be at least 1"),
        ({"blocks": (BlockShorthand(repeat=600),) * 2}, "1200 blocks is too large"),
        ({"branches": ("3x3",) + ("identity",) * 20_000}, "branches is too large"),
        ({"skips": (Skip(0, 1),) * 20_000}, "20000 skips is too large"),
        ({"width": 10**9}, "width must be at most 65536"),
        ({"width": 65536, "branches": "plain"}, "parameters is too large"),
        ({"branches": ("3x3*99999 1x1",)}, "must be at most 65536"),
        (
            {"blocks": (BlockShorthand(("avg99999x99999",)),)},
            "radius of 'avg99999x99999' must be at most 512",
        ),
        ({"branches": ("3x3 d999999",)}, "must be at most 512"),
    ],
)
def test_networks_made_to_harm_are_refused_before_any_work(network, message):
    with pytest.raises(OnebranchError, match=message):
        expand(NetworkShorthand(**{"task": "upscale", **network}))
