"""The report in a real browser: no complaint on its console, readable on a phone, light and dark.

Needs Chromium, which `.ci/run` installs where it can.
"""

import os
import re
import shutil
import subprocess

import pytest
from PIL import Image

from semdefect.report import Card, Grid, Picture, Section, write_report

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
needs_chromium = pytest.mark.skipif(
    CHROMIUM is None and "GITHUB_ACTIONS" not in os.environ,
    reason="needs Chromium, which pip cannot install; .ci/run fetches it where apt can",
)
pytestmark = needs_chromium

LIGHT, DARK = 1, 0
PHONE = 390
#: Writes what the browser made of the page into the page, which --dump-dom prints.
PROBE = """<script>
const seen = {
  width: window.innerWidth,
  over: document.documentElement.scrollWidth - document.documentElement.clientWidth,
  paper: getComputedStyle(document.body).backgroundColor,
  pictures: [...document.images].filter(picture => picture.naturalWidth > 0).length,
};
for (const [key, value] of Object.entries(seen)) document.body.dataset[key] = value;
</script>"""


def browse(page, scheme=LIGHT):
    """The page after it was shown, and what the browser's console says."""
    done = subprocess.run(
        [
            CHROMIUM, "--headless", "--no-sandbox", "--disable-gpu", "--enable-logging=stderr",
            f"--user-data-dir={page.parent / 'profile'}", f"--window-size={PHONE},844",
            f"--blink-settings=preferredColorScheme={scheme}", "--dump-dom", page.as_uri(),
        ],
        capture_output=True, text=True, timeout=120, check=True,
    )  # fmt: skip
    return done.stdout, [line for line in done.stderr.splitlines() if "CONSOLE" in line]


@pytest.fixture
def report(tmp_path):
    """A report with a wide table and a wide picture, and the probe at its end."""
    Image.effect_noise((1600, 300), 50).save(tmp_path / "wide.png")
    grid = Grid([f"column {number}" for number in range(20)], [["0.123"] * 20] * 5, "many columns")
    pictures = [Picture(tmp_path / "wide.png", "strip", wide=True), Picture(tmp_path / "wide.png", "shrunk")]
    sections = [Section("Figures & <tables>", ["A paragraph."], [grid]), Section("Pictures", [], [], pictures)]
    path = tmp_path / "report.html"
    write_report("A report", "What it is.", [Card("accuracy", "88.6 %", "85.1 to 91.7 %")] * 5, sections, path)
    path.write_text(path.read_text(encoding="utf-8").replace("</body>", PROBE + "</body>"), encoding="utf-8")
    return path


def test_it_renders_without_a_complaint_and_no_wider_than_a_phone(report):
    dom, console = browse(report)
    assert console == []
    assert re.search(r'data-pictures="2"', dom)
    assert int(re.search(r'data-width="(\d+)"', dom)[1]) <= 500  # the narrowest window of some versions
    assert re.search(r'data-over="0"', dom)


def test_it_is_dark_where_the_reader_wants_it_dark(report):
    papers = [re.search(r'data-paper="rgb\((\d+)', browse(report, scheme)[0])[1] for scheme in (LIGHT, DARK)]
    assert int(papers[0]) > 200 > 60 > int(papers[1])


def test_the_console_would_tell(tmp_path):
    """A control: a page that goes wrong is not called silent."""
    page = tmp_path / "broken.html"
    page.write_text("<!doctype html><link rel=icon href=data:,><script>console.error('broken'); missing()</script>")
    _, console = browse(page)
    assert any("broken" in line for line in console)
    assert any("missing is not defined" in line for line in console)
