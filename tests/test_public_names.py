"""The names that `import onebranch` promises."""

import pytest

import onebranch


@pytest.mark.fast
def test_every_public_name_is_there_once() -> None:
    assert sorted(onebranch.__all__) == sorted(set(onebranch.__all__))
    for name in onebranch.__all__:
        assert getattr(onebranch, name) is getattr(onebranch, name)
    assert set(onebranch.__all__) <= set(dir(onebranch))


@pytest.mark.fast
def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no attribute 'enhanse'"):
        onebranch.enhanse  # noqa: B018


@pytest.mark.fast
@pytest.mark.parametrize("name", onebranch.__all__)
def test_every_public_name_has_an_example_that_the_doctests_run(name: str) -> None:
    assert ">>> " in (getattr(onebranch, name).__doc__ or "")


def test_quantize_returns_a_model_and_its_loss(crops) -> None:
    quantized, loss = onebranch.quantize("photo-x2", crops)
    assert quantized.quantization is not None
    assert quantized.quantization["loss"]["loss_db"] == round(loss.decibels, 4)
    assert loss.pictures == 1
    with pytest.raises(onebranch.OnebranchError, match="sigma and then belong to the measurement on `data`"):
        onebranch.quantize("photo-x2", crops, sigma=25)
    with pytest.raises(onebranch.OnebranchError, match="data and calibrate are both"):
        onebranch.quantize("photo-x2", crops, data=crops)


def test_train_takes_a_file_or_a_config_and_returns_the_model_file(crops, tmp_path, monkeypatch) -> None:
    config = tmp_path / "tiny.toml"
    config.write_text(
        'name = "tiny"\n[network]\ntask = "upscale"\nbranches = "plain"\nwidth = 4\ndepth = 1\n'
        f'[data]\ntrain = "{crops.as_posix()}"\npatch_size = 16\n[training]\nsteps = 2\nbatch_size = 2\n'
    )
    monkeypatch.chdir(tmp_path)
    path = onebranch.train(config)
    assert path.resolve() == tmp_path / "runs" / "tiny" / "tiny.safetensors"
    assert onebranch.load(path).spec.scale == 2
    from onebranch.training.config import read

    assert onebranch.train(read(config), tmp_path / "again", restart=True).parent == tmp_path / "again"
