"""The pages as a browser shows them: `pytest tests/browser -o addopts=`; skipped where there is no Chromium."""

import json
import re
import shutil
import subprocess
from dataclasses import replace
from html import escape, unescape
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
from report.fabricate import run_folder, sweep_folder

from truetune.commands.report import render
from truetune.records.record import read_items, write_items

CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no chromium, chromium-browser or google-chrome on the path")

FLAGS = (
    *("--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-background-networking"),
    *("--disable-component-update", "--disable-sync"),
)
WIDTHS = (1280, 400)
NASTY = (
    "<script>top.canary = 'script'</script>",
    "<img src=x onerror=\"top.canary = 'image'\"><svg onload=\"top.canary = 'svg'\">",
    "\"double\" 'single' `back` & &amp; <b>bold</b> </td></table></section>",
    "أين المقر الرئيسي؟ \u202eesrever\u202c איפה",
    "👩🏽‍🚀 🎉 🇪🇺 é",
    "unbroken" * 60,
)
# The page lies in a frame of the width asked for; as srcdoc it may be read, and a script in it would run.
CHECK = """<!doctype html><meta charset="utf-8"><iframe style="border:0;width:{width}px;height:900px" srcdoc="{page}">
</iframe><pre id="seen"></pre><script>
addEventListener("load", () => {{
  const frame = document.querySelector("iframe"), page = frame.contentDocument, root = page.documentElement;
  const all = (what) => [...page.querySelectorAll(what)];
  const wide = (one) => one.scrollWidth > one.clientWidth;
  const names = all("svg").flatMap((svg) => {{
    const boxes = [...svg.querySelectorAll("text.name, text.end")].map((text) => text.getBoundingClientRect());
    return boxes.flatMap((a, k) => boxes.slice(k + 1).filter((b) =>
      a.left < b.right - 1 && b.left < a.right - 1 && a.top < b.bottom - 4 && b.top < a.bottom - 4));
  }});
  const beyond = all("body *").filter((one) => one.getBoundingClientRect().right > root.clientWidth + 1
    && !one.closest("details:not([open]), select"));
  document.getElementById("seen").textContent = JSON.stringify({{
    canary: top.canary ?? null, width: root.clientWidth, scroll: root.scrollWidth,
    sideways: all(".scroll, pre").filter(wide).length, beyond: beyond.map((one) => one.outerHTML.slice(0, 80)),
    overlapping: names.length, active: all("script, img, iframe, object, embed, link, [onload], [onerror]").length,
    fetched: frame.contentWindow.performance.getEntriesByType("resource").map((one) => one.name),
    text: page.body.textContent, charts: all("svg").length,
    folded: all("details").every((one) => !one.open),
  }});
}});
</script>"""


def nasty_run(folder: Path) -> Path:
    run_folder(folder)
    for path in (folder / "items").iterdir():
        rows = [
            replace(item, question=text, answer=text, answers=(text,))
            for item, text in zip(read_items(path), NASTY * 100, strict=False)
        ]
        write_items(path, rows)
    return folder


def nasty_sweep(folder: Path) -> Path:
    sweep_folder(folder)
    index = json.loads((folder / "sweep.json").read_text())
    for job, text in zip(index["jobs"], NASTY, strict=False):
        job["overrides"].append(f"note={text}")
    index["jobs"][-1]["error"] = " ".join(NASTY)
    (folder / "sweep.json").write_text(json.dumps(index))
    return folder


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """Plain pages, and the same with every kind of text that could break one."""
    made = {"run": run_folder, "sweep": sweep_folder, "nasty run": nasty_run, "nasty sweep": nasty_sweep}
    return {name: render(make(tmp_path_factory.mktemp(name.replace(" ", "-")))) for name, make in made.items()}


def browse(page: Path, tmp_path: Path, *flags: str) -> str:
    """What `--dump-dom` prints."""
    words = [str(CHROMIUM), *FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *flags, page.as_uri()]
    return subprocess.run(words, capture_output=True, text=True, encoding="utf-8", timeout=120, check=True).stdout


def seen(page: Path, tmp_path: Path, width: int) -> dict[str, Any]:
    check = tmp_path / "check.html"
    content = CHECK.format(width=width, page=escape(page.read_text(encoding="utf-8")))
    check.write_text(content, encoding="utf-8")
    dom = browse(check, tmp_path, f"--window-size={width + 100},1000", "--dump-dom")
    found = re.search(r'<pre id="seen">(.+?)</pre>', dom, re.DOTALL)
    assert found, "the page did not load"
    return json.loads(unescape(found[1]))


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "sweep", "nasty run", "nasty sweep"])
def test_a_page_fits_its_window_and_runs_and_loads_nothing(
    name: str, width: int, pages: dict[str, Path], tmp_path: Path
) -> None:
    found = seen(pages[name], tmp_path, width)
    assert width - 20 <= found["width"] <= width  # a scroll bar may take its part
    assert found["scroll"] <= found["width"]
    assert found["beyond"] == [] or width > 400
    assert found["sideways"] == 0 or width > 400
    assert found["canary"] is None
    assert found["active"] == 0
    assert found["fetched"] == []
    assert found["folded"]
    assert found["charts"] == (12 if "run" in name else 1)
    if name.startswith("nasty"):
        assert [text for text in NASTY if text not in found["text"]] == []


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "sweep"])
def test_names_in_the_charts_do_not_overlap(name: str, width: int, pages: dict[str, Path], tmp_path: Path) -> None:
    assert seen(pages[name], tmp_path, width)["overlapping"] == 0


@pytest.mark.parametrize("name", ["run", "sweep", "nasty run", "nasty sweep"])
def test_no_address_of_a_page_leaves_the_disk(name: str, pages: dict[str, Path]) -> None:
    source = pages[name].read_text(encoding="utf-8")
    markup = re.sub(r">[^<]*<", "><", source.partition("</style>")[2])
    addresses = re.findall(r'\b(?:src|href|action|data|poster|srcset)="([^"]*)"', markup)
    assert [address for address in addresses if not re.fullmatch(r"\d+/report\.html", address)] == []
    assert not re.search(r"url\(|@import", source.partition("</style>")[0])


@pytest.mark.parametrize("width", WIDTHS)
@pytest.mark.parametrize("name", ["run", "sweep"])
def test_a_screenshot_is_not_blank(name: str, width: int, pages: dict[str, Path], tmp_path: Path) -> None:
    shot = tmp_path / "page.png"
    browse(pages[name], tmp_path, f"--window-size={width},1200", f"--screenshot={shot}")
    with Image.open(shot) as image:
        assert image.width == width
        grey = image.convert("L")
        paper = grey.getpixel((4, 4))
        inked = sum(count for count, tone in grey.getcolors(256) or [] if abs(tone - paper) > 60)
    assert inked > 0.005 * image.width * image.height
