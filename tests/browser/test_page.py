"""The page of a run in a headless Chromium: it opens from disk, zooms, and answers a click with a cause."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kafkasim import faults
from kafkasim.handle import Cluster
from kafkasim.report import story_of, write_page

pytestmark = pytest.mark.browser

_SHOTS = Path("build/pages")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """The system's Chromium."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = os.environ.get("KAFKASIM_CHROMIUM") or next(filter(None, map(shutil.which, names)), None)
    assert found, f"no Chromium: none of {', '.join(names)} is on the path, and KAFKASIM_CHROMIUM is not set"
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=["--no-sandbox"])
        yield chromium
        chromium.close()


@pytest.fixture(scope="module")
def page_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run in which a leader crashes."""
    path = tmp_path_factory.mktemp("pages") / "run.html"
    with Cluster(seed=1) as cluster:
        cluster.create_topic("calls", partitions=2, config={"min.insync.replicas": 2})
        cluster.produce("calls", [str(number) for number in range(20)])
        injection = cluster.inject(faults.crash("leader:calls-0", at=5.0, down=20.0))
        with cluster.install():
            consumer = cluster.consumer("billing", ["calls"], {"auto.offset.reset": "earliest"})
            consumer.consume(20, 15.0)
            cluster.run_for(30.0)
            consumer.close()
        write_page(story_of(cluster, title="a crash", report=cluster.check(), fired=injection.fired), path)
    return path


@pytest.fixture
def opened(browser: Any, page_file: Path) -> Iterator[Any]:
    """The page, opened from disk without a network; an error of its scripts fails the test."""
    context = browser.new_context(offline=True, viewport={"width": 1500, "height": 1000})
    page = context.new_page()
    problems: list[str] = []
    page.on("pageerror", lambda error: problems.append(str(error)))
    page.goto(page_file.as_uri())
    page.wait_for_selector("#timeline .main-svg", state="attached")
    yield page
    assert problems == []
    context.close()


def test_the_page_opens_from_disk_without_a_network(opened: Any) -> None:
    """Verdict in words, picture with all its rows; a screenshot is kept."""
    assert opened.inner_text("#verdict") == "every promise was kept"
    titles = opened.eval_on_selector_all("#timeline .annotation-text", "nodes => nodes.map(node => node.textContent)")
    assert "servers and faults" in titles
    assert "calls-0: leader, ISR and ELR" in titles
    assert "group billing: who owns what" in titles
    _SHOTS.mkdir(parents=True, exist_ok=True)
    opened.screenshot(path=_SHOTS / "run.png", full_page=True)
    assert (_SHOTS / "run.png").stat().st_size > 20_000


def test_dragging_zooms_every_row_together(opened: Any) -> None:
    """After a drag over one row the clocks of all rows show the same, shorter span; a double click shows all again."""
    ranges = """() => Object.values(document.getElementById('timeline')._fullLayout)
        .filter(value => value && value._id && value._id[0] === 'x').map(value => value.range)"""
    before = opened.evaluate(ranges)
    box = opened.locator("#timeline .nsewdrag").first.bounding_box()
    middle = box["y"] + box["height"] / 2
    opened.mouse.move(box["x"] + box["width"] * 0.3, middle)
    opened.mouse.down()
    opened.mouse.move(box["x"] + box["width"] * 0.6, middle, steps=8)
    opened.mouse.up()
    is_within = "(width) => { const r = document.getElementById('timeline')._fullLayout.xaxis.range; return r[1] - r[0] < width; }"
    opened.wait_for_function(is_within, arg=0.9 * (before[0][1] - before[0][0]))
    zoomed = opened.evaluate(ranges)
    assert all(span == zoomed[0] for span in zoomed)
    width = before[0][1] - before[0][0]
    assert zoomed[0][1] - zoomed[0][0] == pytest.approx(width * 0.3, rel=0.2)
    opened.mouse.dblclick(box["x"] + box["width"] * 0.5, middle)
    is_whole = "(width) => { const r = document.getElementById('timeline')._fullLayout.xaxis.range; return r[1] - r[0] > width; }"
    opened.wait_for_function(is_whole, arg=0.99 * (before[0][1] - before[0][0]))
    assert opened.evaluate(ranges)[0] == pytest.approx(before[0], abs=0.5)


def test_a_click_shows_the_cause(opened: Any) -> None:
    """A click on the band of the new leader shows the chain that begins with the crash."""
    where = """() => {
        const plot = document.getElementById('timeline');
        let best = null;
        plot.data.forEach((trace, t) => (trace.customdata || []).forEach((text, i) => {
            if (text && text.startsWith('calls-0 replica') && text.includes(': leader,') && text.includes('crash')) best = [t, i];
        }));
        const trace = plot._fullData[best[0]], layout = plot._fullLayout;
        const xaxis = layout['xaxis' + trace.xaxis.slice(1)], yaxis = layout['yaxis' + trace.yaxis.slice(1)];
        const data = plot.data[best[0]];
        const value = (list) => Array.from(list._inputArray || list)[best[1]];
        const box = plot.getBoundingClientRect();
        const x = value(trace.base) + value(trace.x) / 2, y = value(trace.y);
        return [box.left + xaxis._offset + xaxis.d2p(x), box.top + yaxis._offset + yaxis.d2p(y)];
    }"""
    x, y = opened.evaluate(where)
    opened.mouse.move(x, y)
    opened.wait_for_selector("#timeline .hovertext", state="attached")
    opened.mouse.click(x, y)
    opened.wait_for_function("() => document.getElementById('cause').textContent.startsWith('calls-0')")
    cause = opened.inner_text("#cause")
    assert "calls-0" in cause
    assert "crashed" in cause
