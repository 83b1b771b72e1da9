"""Files that onebranch 0.1 wrote stay readable: merged models, merged ONNX files and their records."""

import json
from pathlib import Path

import onnx
import pytest

import onebranch
from onebranch.blocks.plan import read
from onebranch.verification import record_of

pytestmark = pytest.mark.fast

FILES = Path(__file__).parent / "data" / "version_0_1"


def test_a_merged_model_is_read_with_the_keys_of_today_and_verifies(run):
    merged = onebranch.load(FILES / "merged.safetensors")
    assert "ends" in merged.merge["plan"]
    assert record_of(merged).plan == onebranch.MergePlan(group="type", head_and_tail=False)
    assert "verified" in run("verify", FILES / "branches.safetensors", FILES / "merged.safetensors").output
    words = run("info", "--all", FILES / "merged.safetensors").output.split()
    assert "head_and_tail False" in " ".join(words)


def test_a_changed_record_of_a_merged_model_is_refused():
    merged = onebranch.load(FILES / "merged.safetensors")
    merged.merge["plan"]["ends"] = True
    with pytest.raises(onebranch.OnebranchError, match="seal"):
        record_of(merged)


def test_a_merged_onnx_file_verifies(run):
    properties = {p.key: p.value for p in onnx.load(FILES / "merged.onnx").metadata_props}
    record = json.loads(properties["onebranch_merge"])
    assert "version" not in record and "left" in record["report"]
    assert "verified" in run("verify", FILES / "branches.onnx", FILES / "merged.onnx").output
    assert run("info", FILES / "merged.onnx").code == 0


def test_a_changed_record_of_a_merged_onnx_file_is_refused():
    merged = onnx.load(FILES / "merged.onnx")
    merged.metadata_props[0].value = merged.metadata_props[0].value.replace(
        '"changed": true', '"changed": 1.5'
    )
    with pytest.raises(onebranch.OnebranchError, match="record"):
        onebranch.verify(onnx.load(FILES / "branches.onnx"), merged)


def test_an_old_key_in_a_plan_file_is_refused_with_the_new_one():
    with pytest.raises(onebranch.OnebranchError, match="'ends' is now called 'head_and_tail'"):
        read(FILES / "plan.toml")
