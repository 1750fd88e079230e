"""An adapter's folder is the model that it makes of its base; one that does not fit is refused in one line."""

import json
import shutil

import pytest
import torch
from training.small import language_model

from truetune.errors import UserError
from truetune.models.pretrained import Pretrained
from truetune.models.tiny import PretrainingSettings, Tiny
from truetune.models.tokenizers import word_level

peft = pytest.importorskip("peft")


@pytest.fixture
def base(tmp_path):
    lm = language_model()
    lm.model.save_pretrained(tmp_path / "base")
    lm.tokenizer.save_pretrained(tmp_path / "base")
    return tmp_path / "base"


def adapter(base, folder, **settings):
    """A trained one, and the merged model that PEFT makes."""
    model = Pretrained(str(base)).load().model
    options = {"r": 2, "target_modules": "all-linear", "task_type": "CAUSAL_LM", **settings}
    adapted = peft.get_peft_model(model, peft.LoraConfig(**options))
    torch.manual_seed(1)
    with torch.no_grad():
        for name, parameter in adapted.named_parameters():
            if "lora_B" in name:
                parameter.normal_()
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    adapted.save_pretrained(folder)
    return adapted.merge_and_unload().eval()


def logits(model):
    ids = torch.tensor([[3, 4, 5, 6]])
    return model.eval()(input_ids=ids, use_cache=False).logits


def refusal(folder, **options):
    with pytest.raises(UserError) as caught:
        Pretrained(str(folder), **options).load()
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_it_is_merged_into_the_base_that_its_settings_name_or_that_is_typed(base, tmp_path):
    merged, notes = adapter(base, tmp_path / "a"), []
    lm = Pretrained(str(tmp_path / "a")).load(notes.append)
    torch.testing.assert_close(logits(lm.model), logits(merged))
    assert notes == [f"model.name_or_path={tmp_path}/a: an adapter, merged into {base}"]
    assert all(parameter.requires_grad for parameter in lm.model.parameters())
    plain = Pretrained(str(base)).load()
    assert lm.digest != plain.digest
    shutil.move(base, tmp_path / "moved")
    assert refusal(tmp_path / "a").endswith(f"its base {base} is not here; type model.base=FOLDER")
    again = Pretrained(str(tmp_path / "a"), base=str(tmp_path / "moved")).load()
    assert again.digest == lm.digest
    assert Pretrained(str(tmp_path / "a"), base=str(tmp_path / "moved")).weights_bytes() > 1000


def test_one_for_another_base_is_refused(base, tmp_path):
    adapter(base, tmp_path / "a", target_modules=["q_proj", "v_proj"])
    settings = PretrainingSettings(1, 1e-3, 0, 0.0, 1.0)
    for layers, width in ((1, 32), (2, 16)):
        other = Tiny(0, width, layers, 32, 300, settings, intermediate_size=16, heads=2)
        lm = other.build(word_level([f"w{n}" for n in range(12)]), "digest", "test")
        lm.model.save_pretrained(tmp_path / f"{layers}")
        lm.tokenizer.save_pretrained(tmp_path / f"{layers}")
        message = refusal(tmp_path / "a", base=str(tmp_path / f"{layers}"))
        assert "the adapter does not fit its base" in message
        assert message.endswith("name the right one: model.base=...")


def test_what_is_no_adapter_to_be_merged_is_refused(base, tmp_path):
    adapter(base, tmp_path / "a")
    weights = tmp_path / "a" / "adapter_model.safetensors"
    weights.rename(tmp_path / "a" / "adapter_model.bin")
    assert "only pickled weights (adapter_model.bin), which can run code" in refusal(tmp_path / "a")
    (tmp_path / "a" / "adapter_model.bin").unlink()
    assert "no adapter_model.safetensors" in refusal(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text("[]")
    assert "holds no object" in refusal(tmp_path / "a")
    (tmp_path / "a" / "adapter_config.json").write_text("{")
    assert "is not JSON" in refusal(tmp_path / "a")
    assert refusal(base, base=str(base)).endswith("is no adapter; leave model.base out")


def test_settings_that_name_no_base_need_one_typed(base, tmp_path):
    adapter(base, tmp_path / "a")
    path = tmp_path / "a" / "adapter_config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | {"base_model_name_or_path": None}))
    assert refusal(tmp_path / "a").endswith("the adapter's settings name no base; type model.base=FOLDER")
    assert Pretrained(str(tmp_path / "a"), base=str(base)).load()


def test_code_of_a_base_that_only_the_settings_name_is_not_trusted(base, tmp_path):
    adapter(base, tmp_path / "a")
    config = json.loads((base / "config.json").read_text())
    (base / "config.json").write_text(json.dumps(config | {"auto_map": {"AutoModelForCausalLM": "x.Y"}}))
    assert "needs code of its own" in refusal(tmp_path / "a", trust_remote_code=True)


def test_the_last_checkpoint_of_a_trainers_folder_is_taken(base, tmp_path):
    out, notes = tmp_path / "out", []
    for number in (5, 10, 9):
        shutil.copytree(base, out / f"checkpoint-{number}")
    lm = Pretrained(str(out)).load(notes.append)
    assert notes == [f"model.name_or_path={out}: holds no model itself; checkpoint-10 is taken"]
    assert lm.digest == Pretrained(str(base)).load().digest
    merged = adapter(base, out / "checkpoint-11")
    torch.testing.assert_close(logits(Pretrained(str(out)).load().model), logits(merged))
