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
