"""The page in a real Chromium: what it draws is what the library answered, and it is usable by everybody."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gradtrace.queries import Library
from gradtrace.service.report import Report
from gradtrace.service.report.ways import ways_of
from gradtrace.service.report.words import percent

Open = Callable[..., Any]
CONTRAST = Path(__file__).with_name("contrast.js").read_text()
HALF_DIGIT = 0.000006  # numbers are embedded with five digits after the point
PIXEL = 0.02


def _texts(page: Any, selector: str) -> list[str]:
    return [t.strip() for t in page.locator(selector).all_inner_texts()]


def _to(page: Any, at: int) -> None:
    """Move the slider as a hand does."""
    page.locator("#step").fill(str(at))


def test_every_part_is_there(opened: Open, reports: dict[str, Report]) -> None:
    with opened("long") as it:
        run = reports["long"].runs[0]
        assert tuple(_texts(it.page, "#headline p")) == run.headline
        for place in ("#shares-chart", "#loss-chart", "#forks-chart", "#graph-chart"):
            assert it.page.locator(f"{place} svg[role=img][aria-label]").count() == 1
        assert it.page.locator("#parameters-table tbody tr").count() == len(run.parameters)
        assert "60 of 70 traced steps are drawn" in it.page.locator("#notes").inner_text()


def test_lines_are_at_the_height_of_the_shares(opened: Open, library: Library, reports: dict[str, Report]) -> None:
    rows = library.run("components-over-time", run="long", points=reports["long"].points).rows
    steps = sorted({row["step"] for row in rows})
    with opened("long") as it:
        ticks = it.page.evaluate(
            "[...document.querySelectorAll('#shares-chart .tick')].map(t => [+t.dataset.value, +t.getAttribute('y') - 4])"
        )
        (low, bottom), (high, top) = ticks[0], ticks[-1]
        lines = it.page.evaluate(
            "[...document.querySelectorAll('#shares-chart .series')].map(l => [l.dataset.name, l.getAttribute('d')])"
        )
        assert 3 <= len(lines) <= 6
        for name, path in lines:
            drawn = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
            wanted = [row["share"] for row in rows if row["component"] == name]
            assert len(drawn) == len(wanted) == len(steps)
            for y, share in zip(drawn, wanted, strict=True):
                assert y == pytest.approx(bottom + (share - low) / (high - low) * (top - bottom), abs=PIXEL)
        it.page.locator("#quantity").select_option("foreign_share")
        name, path = it.page.evaluate(
            "(l => [l.dataset.name, l.getAttribute('d')])(document.querySelector('#shares-chart .series'))"
        )
        drawn = [float(y) for _, y in re.findall(r"[ML]([\d.]+) ([\d.]+)", path)]
        wanted = [row["foreign_share"] for row in rows if row["component"] == name]
        assert drawn == pytest.approx([bottom + s * (top - bottom) for s in wanted], abs=PIXEL)


def test_the_slider_moves_and_shows_the_ways_and_routes_of_its_step(
    opened: Open, library: Library, reports: dict[str, Report]
) -> None:
    points = reports["long"].points
    ways = library.run("component-graph", run="long", points=points).rows
    routes = library.run("routes-over-time", run="long", points=points).rows
    shares = library.run("components-over-time", run="long", points=points).rows
    steps = sorted({row["step"] for row in ways})
    with opened("long") as it:
        seen = set()
        for at in (len(steps) - 1, 0, len(steps) // 2):
            _to(it.page, at)
            step = steps[at]
            assert f"Step {step}, epoch" in it.page.locator("#at").inner_text()
            assert it.page.locator("#step").get_attribute("aria-valuetext") == it.page.locator("#at").inner_text()
            drawn = it.page.evaluate(
                "[...document.querySelectorAll('.way')].map(w => "
                "[w.dataset.source, w.dataset.target, +w.dataset.share, +w.getAttribute('stroke-width')])"
            )
            wanted = {(r["source"] or "loss", r["target"] or "loss"): r["share"] for r in ways if r["step"] == step}
            assert {(a, b) for a, b, *_ in drawn} == set(wanted)
            for a, b, share, width in drawn:
                assert share == pytest.approx(wanted[a, b], abs=HALF_DIGIT, rel=1e-4)
                assert width == pytest.approx(0.75 + 14 * min(1, share), abs=0.001)
            listed = _texts(it.page, "#routes li")
            here = [r for r in routes if r["step"] == step]
            assert [line.partition("\n")[2] for line in listed] == [r["route"] for r in here]
            told = [float(line.partition(" %")[0]) for line in listed]
            assert told == pytest.approx([100 * r["share"] for r in here], abs=0.0511)
            lines = it.page.evaluate(
                "[...document.querySelectorAll('.route')].map(w => [w.dataset.source, w.dataset.target, w.style.stroke])"
            )
            first = [(a, b) for a, b, colour in lines if colour == "var(--c0)"]
            assert set(first) == {pair for pair in ways_of(here[0]["tokens"]) if pair in wanted}
            for name, share in it.page.evaluate(
                "[...document.querySelectorAll('.node')].map(n => [n.dataset.name, n.dataset.share])"
            ):
                mine = [r["share"] for r in shares if r["step"] == step and r["component"] == name != "<model>"]
                assert [float(share)] == pytest.approx(mine, abs=HALF_DIGIT) if share else not mine
            seen.add(tuple(listed))
        assert len(seen) == 3


def test_slider_buttons_and_keys(opened: Open, reports: dict[str, Report]) -> None:
    with opened("long") as it:
        slider = it.page.locator("#step")
        last = int(slider.input_value())
        it.page.locator("#back").click()
        assert int(slider.input_value()) == last - 1
        slider.focus()
        it.page.keyboard.press("ArrowLeft")
        assert int(slider.input_value()) == last - 2
        it.page.keyboard.press("Home")
        assert slider.input_value() == "0" and "Step 0," in it.page.locator("#at").inner_text()
        play = it.page.locator("#play")
        play.click()
        third = reports["long"].runs[0].steps[2]
        it.page.locator("#at").filter(has_text=f"Step {third}, epoch").wait_for()
        play.click()
        assert play.get_attribute("aria-pressed") == "false"


def test_the_lines_are_read_by_keyboard(opened: Open, library: Library, reports: dict[str, Report]) -> None:
    rows = library.run("components-over-time", run="long", points=reports["long"].points).rows
    steps = sorted({row["step"] for row in rows})
    with opened("long") as it:
        it.page.locator("#shares-chart svg").focus()
        it.page.keyboard.press("Home")
        it.page.keyboard.press("ArrowRight")
        told = it.page.locator("#shares-chart .read").inner_text()
        assert told.startswith(f"Step {steps[1]}, epoch 0:")
        shown = it.page.evaluate("[...document.querySelectorAll('#shares-chart .series')].map(l => l.dataset.name)")
        for name in shown:
            [share] = [r["share"] for r in rows if r["component"] == name and r["step"] == steps[1]]
            assert f"{name} {percent(share)}" in told
        button = it.page.locator("#shares-legend button[aria-pressed=true]").first
        button.focus()
        it.page.keyboard.press("Enter")
        assert it.page.locator("#shares-chart .series").count() == len(shown) - 1


def test_win_rates(opened: Open, library: Library) -> None:
    rows = library.run("win-rates", run="long").rows
    last = max(row["epoch"] for row in rows)
    wanted = {row["component"]: row for row in rows if row["epoch"] == last}
    with opened("long") as it:
        discs = it.page.evaluate(
            "[...document.querySelectorAll('#forks-chart .disc')].map(c => [c.dataset.name, +c.dataset.value, "
            "+c.getAttribute('cx')])"
        )
        assert [name for name, *_ in discs] == list(wanted)[: len(discs)] and discs
        xs = it.page.evaluate("[...document.querySelectorAll('#forks-chart .grid')].map(g => +g.getAttribute('x1'))")
        for name, value, x in discs:
            assert value == pytest.approx(wanted[name]["win_rate"], abs=HALF_DIGIT)
            assert x == pytest.approx(xs[0] + value * (xs[-1] - xs[0]), abs=PIXEL)
        it.page.locator("#forks-numbers summary").click()
        it.page.wait_for_selector("#forks-numbers tbody tr")
        assert it.page.locator("#forks-numbers tbody tr").count() == len(rows)


def test_the_parameter_table_sorts(opened: Open, reports: dict[str, Report]) -> None:
    run = reports["long"].runs[0]
    with opened("long") as it:
        head = it.page.locator("#parameters-table thead th")
        shares = [percent(row["share"]) for row in sorted(run.parameters, key=lambda r: -r["share"])]
        assert _texts(it.page, "#parameters-table tbody td:nth-child(3)") == shares
        assert head.nth(2).get_attribute("aria-sort") == "descending"
        head.nth(0).locator("button").press("Enter")
        names = _texts(it.page, "#parameters-table tbody th")
        assert names == sorted((row["parameter"] for row in run.parameters), key=_natural)
        assert head.nth(0).get_attribute("aria-sort") == "ascending" and not head.nth(2).get_attribute("aria-sort")
        head.nth(0).locator("button").click()
        assert _texts(it.page, "#parameters-table tbody th") == names[::-1]
        dead = [row["margin"] for row in run.parameters].count(None)
        assert dead, "a parameter without a path is wanted here"
        head.nth(6).locator("button").click()
        assert _texts(it.page, "#parameters-table tbody td:nth-child(7)")[-dead:] == ["–"] * dead


def _natural(name: str) -> list[Any]:
    return [int(part) if part.isdigit() else part.lower() for part in re.split(r"(\d+)", name)]


def test_runs_are_compared(opened: Open, reports: dict[str, Report]) -> None:
    comparison = reports["grid"].comparison
    assert comparison is not None
    with opened("grid") as it:
        assert tuple(_texts(it.page, "#headline p")) == comparison.headline
        assert it.page.locator("#runs-table tbody tr").count() == 6
        for number, measure in enumerate(("share", "foreign_share", "win_rate")):
            it.page.locator("#measure").select_option(str(number))
            discs = it.page.evaluate(
                "[...document.querySelectorAll('#compare-chart .disc')].map(c => [c.dataset.name, +c.dataset.value])"
            )
            shown = list(dict.fromkeys(name for name, _ in discs))
            assert shown
            wanted = [
                (component, comparison.spreads[measure, component, setting].mean)
                for component in shown
                for setting in range(2)
                if (measure, component, setting) in comparison.spreads
            ]
            assert [name for name, _ in discs] == [name for name, _ in wanted]
            assert [mean for _, mean in discs] == pytest.approx([mean for _, mean in wanted], abs=HALF_DIGIT)
        it.page.locator("#which").select_option("4")
        assert tuple(_texts(it.page, "#run-headline p")) == reports["grid"].runs[4].headline
        it.page.locator("#runs-table tbody tr").nth(1).click()
        assert it.page.locator("#which").input_value() == "1"


@pytest.mark.parametrize("name", ["long", "grid", "hostile", "one-step"])
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_can_be_read(opened: Open, name: str, scheme: str) -> None:
    with opened(name, width=360, color_scheme=scheme, reduced_motion="reduce") as it:
        for details in it.page.locator("details").all():
            details.locator("summary").click()
        assert it.page.evaluate("document.documentElement.scrollWidth") == 360
        assert it.page.evaluate(CONTRAST) == []
        assert it.page.evaluate("getComputedStyle(document.querySelector('.node .bar')).transitionDuration") == "0s"
        unnamed = it.page.evaluate(
            "[...document.querySelectorAll('button, input, select, svg[role=img]')].filter(e => "
            "!(e.getAttribute('aria-label') || e.labels?.length || e.textContent.trim())).map(e => e.outerHTML)"
        )
        assert unnamed == []


def test_the_focus_can_be_seen(opened: Open) -> None:
    with opened("long") as it:
        for _ in range(6):
            it.page.keyboard.press("Tab")
            style = it.page.evaluate(
                "(s => [s.outlineStyle, s.outlineWidth])(getComputedStyle(document.activeElement))"
            )
            assert style == ["solid", "3px"]


def test_markup_in_names_does_nothing(opened: Open, reports: dict[str, Report]) -> None:
    with opened("hostile") as it:
        run = reports["hostile"].runs[0]
        assert it.page.locator("h1").inner_text() == run.run
        assert it.page.locator("#facts").inner_text().count("<b>Wörk") == 1
        it.page.locator("#shares-numbers summary").click()
        shown = set(_texts(it.page, "#shares-numbers tbody th"))
        assert {row["component"] for row in run.by_epoch} == shown
        assert "<script>window.hit=2</script>" in shown
        assert it.page.evaluate("window.hit") is None
        assert it.page.locator("img").count() == 0 and it.page.locator("main script, header script").count() == 0


def test_without_scripts_there_are_tables(opened: Open, reports: dict[str, Report]) -> None:
    with opened("grid", java_script_enabled=False) as it:
        text = it.page.locator("main").inner_text()
        for run in reports["grid"].runs:
            assert all(sentence in text for sentence in run.headline)
        assert it.page.locator("noscript table, main table").count() == 7
