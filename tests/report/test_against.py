"""Methods against plain: counted by hand, on the very items that the jobs left behind."""

import csv
import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fabricate import run_folder, sweep_folder
from scipy.stats import binomtest, ttest_1samp

from truetune.commands.report import render
from truetune.records.record import read_items, write_items
from truetune.report.against import adjusted, compared, pooled
from truetune.report.sweeps import read_sweep
from truetune.scoring.estimates import Estimate
from truetune.scoring.paired import holm


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sweep_folder(tmp_path_factory.mktemp("sweep"))


def items(folder: Path, number: int, when: str = "final"):
    return {item.id: item for item in read_items(folder / str(number) / "items" / f"hallucination.{when}.jsonl")}


def test_each_job_is_compared_with_the_plain_one_of_its_seed(folder: Path) -> None:
    found = {(one.numbers[0], one.quantity): one for one in compared(read_sweep(folder))}
    assert set(found) == {(number, quantity) for number in range(3, 9) for quantity in ("lost", "wrong")}
    base, plain, ours = items(folder, 1, "base"), items(folder, 1), items(folder, 4)
    known = [key for key, item in base.items() if item.outcome == "right"]
    more = sum(ours[key].outcome != "right" and plain[key].outcome == "right" for key in known)
    fewer = sum(plain[key].outcome != "right" and ours[key].outcome == "right" for key in known)
    lost = found[4, "lost"]
    assert (lost.more, lost.fewer, lost.n) == (more, fewer, len(known))
    net = Counter[str]()
    for key in known:
        net[base[key].cluster] += (ours[key].outcome != "right") - (plain[key].outcome != "right")
    rose, fell = sum(change > 0 for change in net.values()), sum(change < 0 for change in net.values())
    assert lost.p == pytest.approx(binomtest(rose, rose + fell).pvalue, rel=1e-6, abs=0), "an entity counts once"
    assert lost.differences == ((more - fewer) / len(known),)
    assert found[4, "wrong"].n == len(ours)


def test_seeds_are_pooled_and_a_few_have_no_interval(folder: Path) -> None:
    alone = [one for one in compared(read_sweep(folder)) if one.quantity == "lost"]
    together = [one for one in pooled(compared(read_sweep(folder))) if one.quantity == "lost"]
    assert [(dict(one.setting)["method"], one.numbers) for one in together] == [
        ("kl_to_base", (3, 4, 5)),
        ("replay", (6, 7, 8)),
    ]
    assert together[0].more == sum(one.more for one in alone[:3])
    each = [one.differences[0] for one in alone[:3]]
    assert together[0].difference == Estimate(sum(each) / 3, 3), "three seeds have no interval"
    assert together[0].p == pytest.approx(ttest_1samp(each, 0).pvalue)
    assert together[0].p > 10 * binomtest(together[0].more, together[0].more + together[0].fewer).pvalue


def test_holm_is_applied_within_one_quantity(folder: Path) -> None:
    found = compared(read_sweep(folder))
    lost = [index for index, one in enumerate(found) if one.quantity == "lost"]
    assert [adjusted(found)[index] for index in lost] == holm([found[index].p for index in lost])


def test_the_sheet_and_the_page_show_both_p_values(folder: Path) -> None:
    page = render(folder).read_text(encoding="utf-8")
    assert "Against plain fine-tuning" in page
    with (folder / "sweep.csv").open(newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    found = compared(read_sweep(folder))
    assert float(lines[4]["against_plain/lost/p"]) == found[2].p
    assert float(lines[4]["against_plain/lost/p_holm"]) == adjusted(found)[2]
    assert lines[0]["against_plain/lost/p"] == lines[9]["against_plain/lost/p"] == ""


def test_other_questions_are_not_compared(tmp_path: Path) -> None:
    jobs = [{"number": n, "overrides": [f"method={m}"]} for n, m in enumerate(("plain", "lora"))]
    for n in range(2):
        run_folder(tmp_path / str(n))
    (tmp_path / "sweep.json").write_text(json.dumps({"jobs": jobs}))
    assert len(compared(read_sweep(tmp_path))) == 2
    for when in ("base", "final"):
        path = tmp_path / "1" / "items" / f"hallucination.{when}.jsonl"
        write_items(path, [replace(item, id=f"x{item.id}") for item in read_items(path)])
    assert compared(read_sweep(tmp_path)) == []
    assert "Against plain" not in render(tmp_path).read_text(encoding="utf-8")
    assert "against_plain" not in (tmp_path / "sweep.csv").read_text()
