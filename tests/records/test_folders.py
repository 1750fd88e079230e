"""Cached folders: made once, whole, and made again when damaged."""

import threading
import time

import pytest

from truetune.records.files import cached, verify


def build(log):
    def make(folder):
        log.append("built")
        time.sleep(0.05)
        (folder / "weights").write_bytes(b"0123456789")

    return make


def test_a_hit_builds_nothing(tmp_path):
    log, said = [], []
    assert cached(tmp_path / "x", build(log), said.append) == cached(tmp_path / "x", build(log), said.append)
    assert (log, said) == (["built"], [])


@pytest.mark.parametrize("damage", [lambda f: f.write_bytes(b"0123456780"), lambda f: f.unlink()])
def test_a_damaged_folder_is_made_again_with_a_word(tmp_path, damage):
    log, said = [], []
    cached(tmp_path / "x", build(log), said.append)
    damage(tmp_path / "x" / "weights")
    cached(tmp_path / "x", build(log), said.append)
    assert log == ["built", "built"]
    assert "damaged" in said[0]
    assert verify(tmp_path / "x") is None


def test_a_build_that_fails_leaves_nothing_in_place(tmp_path):
    def fail(folder):
        (folder / "half").write_text("")
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        cached(tmp_path / "x", fail, print)
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == []


def test_who_comes_second_waits(tmp_path):
    log = []
    threads = [threading.Thread(target=cached, args=(tmp_path / "x", build(log), lambda _: None)) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert log == ["built"]


def test_one_flipped_bit_in_any_file_or_a_bad_manifest_is_damage(tmp_path):
    def make(folder):
        (folder / "inner").mkdir()
        (folder / "inner" / "a").write_bytes(bytes(range(20)))
        (folder / "b").write_bytes(b"\x00" * 20)

    folder = cached(tmp_path / "x", make, print)
    for path in (folder / "inner" / "a", folder / "b"):
        whole = path.read_bytes()
        for place in range(len(whole)):
            damaged = bytearray(whole)
            damaged[place] ^= 1 << (place % 8)
            path.write_bytes(damaged)
            assert verify(folder) == f"{path.relative_to(folder)} has changed"
        path.write_bytes(whole)
    assert verify(folder) is None
    manifest = folder / "manifest.json"
    for content in ("", "[]", "{", manifest.read_text().replace("0", "1")):
        manifest.write_text(content)
        assert verify(folder) is not None


def test_a_build_that_was_interrupted_is_tried_again_without_a_word(tmp_path):
    def fail(folder):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        cached(tmp_path / "x", fail, print)
    log, said = [], []
    cached(tmp_path / "x", build(log), said.append)
    assert (log, said) == (["built"], [])
