"""What is stored is read back whole or refused, and a record reaches no file outside its folder."""

import json
import os

import pytest
import torch

from ion_ode.store import CheckpointError, digest, read_checkpoint, write_checkpoint

FACTS = {"step": 3, "key": "k", "card": {"errors": [0.1, 0.25], "name": "ö"}}


def stored(folder):
    path = write_checkpoint(folder, {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(1)}, FACTS)
    return path, folder / json.loads(path.read_text())["file"]


@pytest.mark.parametrize("which", [0, 1], ids=["record", "tensors"])
def test_no_flip_of_a_bit_is_accepted(tmp_path, which):
    file = stored(tmp_path)[which]
    data, accepted = file.read_bytes(), []
    for k in range(len(data)):
        for bit in range(8):
            file.write_bytes(data[:k] + bytes([data[k] ^ 1 << bit]) + data[k + 1 :])
            try:
                read_checkpoint(tmp_path / "latest.json", {"a": (2, 3)})
                accepted.append((k, bit))
            except CheckpointError:
                pass
    assert not accepted
    file.write_bytes(data)
    assert read_checkpoint(tmp_path / "latest.json")[1]["card"] == FACTS["card"]


@pytest.mark.parametrize("cut", ["half", "last byte", "hole", "empty", "more"])
def test_a_cut_or_filled_file_is_refused(tmp_path, cut):
    path, file = stored(tmp_path)
    data = file.read_bytes()
    n = len(data)
    file.write_bytes(
        {
            "half": data[: n // 2],
            "last byte": data[:-1],
            "hole": data[: n - 24] + bytes(24),
            "empty": b"",
            "more": data + b"\0",
        }[cut]
    )
    with pytest.raises(CheckpointError, match="truncated or was changed"):
        read_checkpoint(path)


@pytest.mark.parametrize("kind", ["absolute", "parent", "folder", "number", "own folder, another's name"])
def test_a_record_neither_reads_nor_removes_a_file_of_another(tmp_path, kind):
    folder = tmp_path / "run"
    path, file = stored(folder)
    (other := tmp_path / "thesis.txt").write_text("precious")
    (beside := folder / "notes.txt").write_text("precious")
    record = json.loads(path.read_text())
    names = {
        "absolute": str(other),
        "parent": f"..{os.sep}thesis.txt",
        "folder": ".",
        "number": 5,
        "own folder, another's name": "notes.txt",
    }
    record |= {"file": names[kind], "sha256": digest(b"precious")}
    path.write_text(json.dumps(record, indent=1))
    with pytest.raises(CheckpointError):
        read_checkpoint(path)
    write_checkpoint(folder, {"a": torch.zeros(1)}, FACTS)
    assert other.read_text() == beside.read_text() == "precious"
    assert read_checkpoint(path)[0]["a"] == 0


def test_a_damaged_record_does_not_keep_a_new_one_from_being_written(tmp_path):
    path, _ = stored(tmp_path)
    for text in ("", "{", "[]", '"file"', '{"file": null}', "[" * 100_000):
        path.write_text(text)
        with pytest.raises(CheckpointError):
            read_checkpoint(path)
        write_checkpoint(tmp_path, {"a": torch.zeros(1)}, FACTS)
        assert read_checkpoint(path)[1]["step"] == 3


def test_a_pair_without_a_seal_is_refused(tmp_path):
    from safetensors.torch import save

    data = save({"a": torch.ones(2)})
    (tmp_path / "m-0.safetensors").write_bytes(data)
    (tmp_path / "m.json").write_text(
        json.dumps({"file": "m-0.safetensors", "sha256": digest(data), "step": 1}, indent=1)
    )
    with pytest.raises(CheckpointError, match="changed after it was written"):
        read_checkpoint(tmp_path / "m.json")


def test_tensors_lie_in_memory_as_new_ones_do(tmp_path):
    path = write_checkpoint(tmp_path, {"a": torch.ones(3), "b": torch.ones(7, 5).T, "c": torch.ones(11)}, FACTS)
    new = torch.empty(5).data_ptr() % 64
    for v in read_checkpoint(path)[0].values():
        assert v.is_contiguous() and v.data_ptr() % 64 == new == 0
