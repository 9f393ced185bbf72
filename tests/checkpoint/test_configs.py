"""What a `config.json` that is copied along says of the dtype follows the tensors; every other byte stays."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from peft import LoraConfig, PeftModel, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModelForCausalLM, GPT2Config, GPT2LMHeadModel

import statex
from statex import StatexError
from statex.checkpoint import copied_into, other_files

CAST = "set ** = cast(bf16) where is_floating_point(it)"
SOME = torch.arange(12).reshape(2, 6)
FLOATS = {"a.weight": torch.randn(3, 4), "b.weight": torch.randn(4)}
MIXED = FLOATS | {"b.weight": torch.randn(4).half()}


def gpt2() -> GPT2LMHeadModel:
    torch.manual_seed(0)
    config = GPT2Config(n_embd=32, n_layer=2, n_head=2, vocab_size=50, n_positions=16, bos_token_id=0, eos_token_id=1)
    return GPT2LMHeadModel(config).eval()


def folder(path: Path, config: str | bytes | None, state: dict[str, torch.Tensor] | None = None) -> Path:
    path.mkdir()
    save_file(FLOATS if state is None else state, path / "model.safetensors")
    if config is not None:
        (path / "config.json").write_bytes(config if isinstance(config, bytes) else config.encode())
    return path


def converted(tmp_path: Path, config: str | bytes, rules: str = CAST, **named: Any) -> tuple[bytes, list[str]]:
    """Return the configuration of the output, and the codes of warnings."""
    source = folder(tmp_path / "in", config, named.pop("state", None))
    done = statex.convert(source, f"{tmp_path}/out/", rules, copy_files=True, **named)
    return (tmp_path / "out" / "config.json").read_bytes(), [warning.code.id for warning in done.warnings]


# --- folders that libraries saved --------------------------------------------------------------------------------


@pytest.mark.parametrize("size", ["1GB", "20KB"])
@pytest.mark.parametrize("format", ["safetensors", "torch"])
def test_what_transformers_saved_loads_in_the_new_dtype(tmp_path: Path, size: str, format: str) -> None:
    model = gpt2()
    model.save_pretrained(tmp_path / "in", max_shard_size=size)
    arguments = ["--shard-size", "20KB"] if size == "20KB" else []
    ended = subprocess.run(
        [sys.executable, "-m", "statex", "apply", "-e", CAST, f"{tmp_path}/in/", f"{tmp_path}/out/", "--copy-files",
         "--format", format, *arguments],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert "config.json: dtype float32 -> bfloat16" in ended.stdout.splitlines()
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "out").eval()
    assert again.dtype == again.config.dtype == torch.bfloat16
    wanted = gpt2().to(torch.bfloat16)
    for key, tensor in wanted.state_dict().items():
        assert torch.equal(again.state_dict()[key], tensor), key
    with torch.no_grad():
        assert torch.equal(again(SOME).logits, wanted(SOME).logits)
    before, after = ((tmp_path / place / "config.json").read_bytes() for place in ("in", "out"))
    assert after == before.replace(b'"dtype": "float32"', b'"dtype": "bfloat16"')
    if size == "20KB":
        (index,) = (tmp_path / "out").glob("*.index.json")
        total = json.loads(index.read_text())["metadata"]["total_size"]
        files = [load_file(path) for path in (tmp_path / "out").glob("*.safetensors")] or [
            torch.load(path) for path in (tmp_path / "out").glob("*.bin")
        ]
        assert total == sum(tensor.nbytes for state in files for tensor in state.values())


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated:FutureWarning")
def test_an_adapter_that_peft_saved_loads_in_the_new_dtype(tmp_path: Path) -> None:
    torch.manual_seed(1)
    config = LoraConfig(r=2, target_modules=["c_attn"], fan_in_fan_out=True, init_lora_weights=False)
    adapted = get_peft_model(gpt2(), config).eval()
    adapted.save_pretrained(tmp_path / "in")
    done = statex.convert(tmp_path / "in", f"{tmp_path}/out/", CAST, copy_files=True)
    assert done.warnings == ()
    base = gpt2().to(torch.bfloat16)
    again = PeftModel.from_pretrained(base, tmp_path / "out", autocast_adapter_dtype=False).eval()
    adapters = {key: tensor for key, tensor in again.state_dict().items() if "lora_" in key}
    assert {tensor.dtype for tensor in adapters.values()} == {torch.bfloat16}
    wanted = adapted.to(torch.bfloat16)
    assert all(torch.equal(tensor, wanted.state_dict()[key]) for key, tensor in adapters.items())
    with torch.no_grad():
        assert torch.equal(again(SOME).logits, wanted(SOME).logits)


# --- one token ---------------------------------------------------------------------------------------------------

ODD = '\t{ "dtype" :"float32" ,\r\n"torch_dtype":\n"float32","x":1e5, "é":"\\u00e9", "y": 1.0E+2,"z":-0}\n\n'


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ('{"torch_dtype": "float32"}', '{"torch_dtype": "bfloat16"}'),
        ('{"dtype": "float32", "a": 1}', '{"dtype": "bfloat16", "a": 1}'),
        ('{"torch_dtype": "torch.float32"}', '{"torch_dtype": "torch.bfloat16"}'),
        ('{"torch_dtype": "float\\u00332"}', '{"torch_dtype": "bfloat16"}'),
        (ODD, ODD.replace("float32", "bfloat16")),
        ('{"a": "dtype", "b": ["\\"dtype\\": \\"float32\\""], "dtype": "float32"}',
         '{"a": "dtype", "b": ["\\"dtype\\": \\"float32\\""], "dtype": "bfloat16"}'),
        ('{"dtype": "float32", "torch_dtype": null}', '{"dtype": "bfloat16", "torch_dtype": null}'),
        ('{"dtype": "float32", "a": {"dtype": null}}', '{"dtype": "bfloat16", "a": {"dtype": null}}'),
        ('{"dtype": "float32", "quantization_config": null}', '{"dtype": "bfloat16", "quantization_config": null}'),
    ],
)  # fmt: skip
def test_the_one_token_is_changed(tmp_path: Path, before: str, after: str) -> None:
    found, warnings = converted(tmp_path, before)
    assert (found.decode(), warnings) == (after, [])


@pytest.mark.parametrize(
    "config",
    [
        "{}",
        '{"model_type": "x", "torch_dtype": null}',
        '{"dtype": "bfloat16"}',
        '{"dtype": "bfloat16", "vision_config": {"dtype": "bfloat16"}}',
        '{"dtype": 32}',
        "[]",
        '["dtype", "float32"]',
        "",
        "not JSON",
    ],
)
def test_a_file_that_says_nothing_or_what_is_right_stays(tmp_path: Path, config: str | bytes) -> None:
    data = config if isinstance(config, bytes) else config.encode()
    assert converted(tmp_path, config) == (data, [])


@pytest.mark.parametrize(
    ("config", "state", "rules", "why"),
    [
        ('{"dtype": "float32"}', MIXED, CAST, "the tensors of the input are f16 and f32"),
        ('{"dtype": "float32"}', FLOATS, "set a.weight = cast(bf16)", "the tensors of the output are bf16 and f32"),
        ('{"dtype": "float16"}', FLOATS, CAST, "the tensors of the input are f32"),
        ('{"dtype": "auto"}', FLOATS, CAST, "the tensors of the input are f32"),
        ('{"dtype": "float32", "torch_dtype": "float16"}', FLOATS, CAST, "the tensors of the input are f32"),
        ('{"dtype": "float32", "text_config": {"dtype": "float32"}}', FLOATS, CAST, "`text_config` has one of its own"),
        ('{"a": [{"torch_dtype": "float32"}]}', FLOATS, CAST, "`a` has one of its own"),
        ('{"dtype": "float32", "quantization_config": {}}', FLOATS, CAST, "it has a `quantization_config`"),
        ('{"dtype": "float32"}', FLOATS, "set ** = cast(f8_e4m3fn)", "models are not made in f8_e4m3fn"),
    ],
)
def test_what_cannot_be_told_is_left_with_a_warning(
    tmp_path: Path, config: str, state: dict[str, torch.Tensor], rules: str, why: str
) -> None:
    source = folder(tmp_path / "in", config, state)
    done = statex.convert(source, f"{tmp_path}/out/", rules, copy_files=True)
    (warning,) = done.warnings
    assert warning.code.id == "SX917"
    assert why in str(StatexError([warning]))
    assert (tmp_path / "out" / "config.json").read_text() == config
    assert done.outputs[0].updated == ()
    again = statex.convert(source, f"{tmp_path}/same/", "rename a.weight -> c.weight", copy_files=True)
    assert again.warnings == ()
    quiet = statex.convert(source, f"{tmp_path}/third/", rules, copy_files=True, update_config=False)
    assert quiet.warnings == ()


def test_integers_do_not_count(tmp_path: Path) -> None:
    state = FLOATS | {"steps": torch.tensor(3), "mask": torch.ones(2, dtype=torch.bool)}
    assert converted(tmp_path, '{"dtype": "float32"}', state=state) == (b'{"dtype": "bfloat16"}', [])


def test_nothing_is_changed_unless_it_is_wanted(tmp_path: Path) -> None:
    config = '{"dtype": "float32"}'
    assert converted(tmp_path, config, update_config=False) == (config.encode(), [])


@pytest.mark.parametrize(
    ("config", "wanted"),
    [
        ('\ufeff{"torch_dtype": "float32"}', '\ufeff{"torch_dtype": "bfloat16"}'),
        ('{"dtype": "float32", "n": 1, "dtype": "float32"}', '{"dtype": "bfloat16", "n": 1, "dtype": "bfloat16"}'),
        ('{"n": 1, "n": 2, "x": NaN, "dtype": "float32"}', '{"n": 1, "n": 2, "x": NaN, "dtype": "bfloat16"}'),
    ],
)
def test_what_python_reads_is_kept_up(tmp_path: Path, config: str, wanted: str) -> None:
    assert json.loads(config.removeprefix("\ufeff"))["dtype" if "torch" not in config else "torch_dtype"] == "float32"
    assert converted(tmp_path, config) == (wanted.encode(), [])


@pytest.mark.parametrize(
    ("config", "why"),
    [
        (b'{"dtype": "bfloat16", "dtype": "float32"}', "it states `dtype` twice"),
        (b'{"dtype": "float32",}', "it cannot be read as JSON"),
        ('{"dtype": "float32"}'.encode("utf-16"), "it cannot be read as JSON"),
        (b'{"dtype": "float32", "x": "\xff"}', "it cannot be read as JSON"),
        (b'{"dtype": "float32", "x": ' + b"[" * 5000 + b"]" * 5000 + b"}", "it cannot be read as JSON"),
    ],
)
def test_what_cannot_be_told_stays_with_a_warning(tmp_path: Path, config: bytes, why: str) -> None:
    source = folder(tmp_path / "in", config)
    done = statex.convert(source, f"{tmp_path}/out/", CAST, copy_files=True)
    (warning,) = done.warnings
    assert warning.code.id == "SX917"
    assert why in warning.notes[0].text
    assert (tmp_path / "out" / "config.json").read_bytes() == config


def test_other_files_that_say_a_dtype_stay(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", None)
    (source / "generation_config.json").write_text('{"dtype": "float32"}')
    statex.convert(source, f"{tmp_path}/out/", CAST, copy_files=True)
    assert (tmp_path / "out" / "generation_config.json").read_text() == '{"dtype": "float32"}'


def test_each_output_has_its_own(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", '{"dtype": "float32"}', MIXED | {"c": torch.ones(2)})
    done = statex.convert(source, f"{tmp_path}/out/", "keep a.weight, c; set ** = cast(bf16)", copy_files=True)
    assert [warning.code.id for warning in done.warnings] == ["SX917"]


def test_the_dry_run_says_it_and_reads_it(tmp_path: Path) -> None:
    source = folder(tmp_path / "in", '{"torch_dtype": "float32"}')
    done = statex.convert(source, f"{tmp_path}/out/", CAST, copy_files=True, dry_run=True)
    assert [str(one) for one in done.outputs[0].updated] == ["config.json: torch_dtype float32 -> bfloat16"]
    assert not (tmp_path / "out").exists()


def test_a_config_that_changes_meanwhile_is_not_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    source = folder(tmp_path / "in", '{"torch_dtype": "float32"}')

    def late(*arguments: Any) -> None:
        (source / "config.json").write_text('{"torch_dtype": "float16"}')
        copied_into(*arguments)

    monkeypatch.setattr("statex.checkpoint.writer.copied_into", late)
    with pytest.raises(StatexError, match="SX609"):
        statex.convert(source, f"{tmp_path}/out/", CAST, copy_files=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in"]


def test_a_config_in_the_cache_of_the_hub(tmp_path: Path) -> None:
    snapshot = tmp_path / "models--a--b" / "snapshots" / "rev"
    (snapshot.parent.parent / "blobs").mkdir(parents=True)
    snapshot.mkdir(parents=True)
    save_file(FLOATS, snapshot / "model.safetensors")
    (snapshot.parent.parent / "blobs" / "ff").write_text('{"dtype": "float32"}')
    (snapshot / "config.json").symlink_to("../../blobs/ff")
    statex.convert(snapshot, f"{tmp_path}/out/", CAST, copy_files=True)
    assert (tmp_path / "out" / "config.json").read_text() == '{"dtype": "bfloat16"}'
    assert (snapshot / "config.json").read_text() == '{"dtype": "float32"}'
    assert [file.path.name for file in other_files(snapshot)[0]] == ["config.json"]
