"""Reports as a reader's browser shows them: Chromium, headless, on files."""

import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import polars as pl
import pytest
from playwright.sync_api import Browser, Page

from c2rec.train.cli import main
from c2rec.train.comparison import Comparison, Result, put_together
from c2rec.train.config import BlendConfig, ModelConfig, RunConfig, SplitConfig, TrainingConfig
from c2rec.train.evaluate import Evaluation, evaluate
from c2rec.train.pages.comparison import ablations_figure, write_comparison
from c2rec.train.pages.evaluation import training_figure, write_evaluation
from c2rec.train.run import Run, load_run
from c2rec.train.significance import Uplift
from c2rec.train.simulate import simulate
from c2rec.train.transactions import read_dataset
from tests.browsers import chromium

HOSTILE = "<img src=x onerror=document.title='pwned'>"
SCHEMES = ("light", "dark")

EMPTY_CHARTS = """() => [...document.querySelectorAll('figure svg')].filter(svg => {
  const marks = [...svg.querySelectorAll('.role-mark :is(path, line, rect)')];
  return !marks.some(mark => {
    const box = mark.getBoundingClientRect();
    return box.width + box.height > 1;
  });
}).map(svg => svg.getAttribute('aria-label'))"""
"""Charts of which no mark takes any room."""

OUTSIDE = """() => [...document.querySelectorAll('figure svg')].flatMap(svg => {
  const frame = svg.getBoundingClientRect();
  return [...svg.querySelectorAll('.role-mark :is(path, line), text')].filter(mark => {
    const box = mark.getBoundingClientRect();
    return box.width + box.height > 0
      && (box.left < frame.left - 3 || box.right > frame.right + 3);
  }).map(mark => mark.textContent || svg.getAttribute('aria-label'));
})"""
"""Marks and words that stick out of their chart."""


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    with chromium() as launched:
        yield launched


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A dataset and a run in a folder, and with a column, whose names are HTML."""
    folder = tmp_path_factory.mktemp("report") / "<script>document.title='pwned'<" / "script>"
    folder.mkdir(parents=True)
    simulate(folder / "data", customers=200, items=60, days=40, seed=1)
    path = folder / "data" / "items.parquet"
    items = pl.read_parquet(path)
    name = pl.format("{} {}", pl.lit(HOSTILE), pl.col("name"))
    items.with_columns(name=name).rename({"colour": HOSTILE}).write_parquet(path)
    call("fit", folder / "data", "--out", folder / "run", "--epochs", "3", "--threads", "1")
    return folder


def call(*arguments: str | Path) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["c2rec-train", *map(str, arguments)])
        with pytest.raises(SystemExit) as exited:
            main()
    assert not exited.value.code


@pytest.fixture(scope="module")
def run(folder: Path) -> Run:
    return load_run(folder / "run")


@pytest.fixture(scope="module")
def evaluation(run: Run) -> Evaluation:
    return evaluate(run, k=5)


@pytest.fixture(scope="module")
def evaluated(folder: Path) -> Path:
    """The page about the run, as the command line writes it."""
    call("evaluate", folder / "run", "-k", "5", "--html", folder / "evaluation.html")
    return folder / "evaluation.html"


def comparison_of(models: int, *, ablations: int) -> Comparison:
    """Many models with figures drawn at random, which nobody had to train."""
    rng = np.random.default_rng(1)

    def result(level: float) -> Result:
        values = rng.uniform(0, level, (80, 3)) * (rng.random((80, 3)) < 0.4)
        return Result(np.arange(80), values, level)

    names = ["c2rec", *(f"c2rec without part {n}" for n in range(ablations))]
    baselines = [f"baseline {n} with a long name" for n in range(models - len(names))]
    results = {
        name: [result(0.5 + 0.01 * place) for _ in range(2)]
        for place, name in enumerate([*names, *baselines])
    }
    settings: dict[str, dict[str, dict[str, Any] | None]] = {
        name: {"offline": {"factors": 8}, "online": {"note": HOSTILE}} for name in results
    }
    return put_together(
        results,
        settings,
        ours="c2rec",
        meanings=dict.fromkeys(names, "part of it is missing"),
        baselines=baselines,
        k=10,
        seeds=2,
        windows=1,
        notes=[f"window 1 is left out: {HOSTILE}"],
    )


def write_compared(path: Path, data: Path, comparison: Comparison) -> Path:
    dataset = read_dataset(data)
    config = RunConfig(
        data=str(data),
        fingerprint=dataset.fingerprint,
        split=SplitConfig(),
        model=ModelConfig(),
        training=TrainingConfig(),
        blend=BlendConfig(),
    )
    write_comparison(path, comparison, dataset, config)
    return path


@pytest.fixture(scope="module")
def compared(folder: Path) -> Path:
    return write_compared(
        folder / "comparison.html", folder / "data", comparison_of(30, ablations=14)
    )


@pytest.fixture(scope="module", params=["evaluated", "compared"])
def report(request: pytest.FixtureRequest) -> Path:
    path = request.getfixturevalue(request.param)
    assert isinstance(path, Path)
    return path


@pytest.fixture
def visit(browser: Browser) -> Iterator[Callable[..., Page]]:
    """Open a file and note what the page asks for and complains about."""
    pages = []

    def opened(path: Path, *, scheme: str = "light", width: int = 1100) -> Page:
        page = browser.new_page(
            viewport={"width": width, "height": 900},
            color_scheme="dark" if scheme == "dark" else "light",
        )
        pages.append(page)
        page.on("console", lambda message: complaints.append(message.text))
        page.on("pageerror", lambda error: complaints.append(str(error)))
        page.on("request", lambda request: asked.append(request.url))
        page.goto(path.as_uri())
        return page

    complaints: list[str] = []
    asked: list[str] = []
    yield opened
    for page in pages:
        page.close()
    assert complaints == []
    assert len(asked) == len(pages), asked  # the files themselves


# --- what a browser sees


@pytest.mark.parametrize("scheme", SCHEMES)
@pytest.mark.parametrize("width", [1100, 375])
def test_no_chart_is_empty_and_nothing_sticks_out(
    visit: Callable[..., Page], report: Path, scheme: str, width: int
) -> None:
    page = visit(report, scheme=scheme, width=width)
    assert page.locator("figure svg").count() >= 8
    assert page.evaluate(EMPTY_CHARTS) == []
    assert page.evaluate(OUTSIDE) == []
    assert page.evaluate("document.documentElement.scrollWidth") <= width


def test_an_empty_chart_would_be_seen(
    visit: Callable[..., Page], evaluated: Path, tmp_path: Path
) -> None:
    """In a copy, the marks of the first chart have lost their shapes."""
    text = evaluated.read_text()
    start = text.index("<svg ")
    end = text.index("</svg>", start)
    chart = re.sub(r'(<path[^>]*) d="[^"]*"', r"\1", text[start:end])
    chart = re.sub(r'(<line[^>]*) x2="[^"]*" y2="[^"]*"', r"\1", chart)
    (tmp_path / "copy.html").write_text(text[:start] + chart + text[end:])
    (empty,) = visit(tmp_path / "copy.html").evaluate(EMPTY_CHARTS)
    assert empty.startswith("Training loss")


def test_every_chart_has_a_title_axes_a_description_and_its_data(
    visit: Callable[..., Page], report: Path
) -> None:
    page = visit(report)
    for figure in page.locator("figure").all():
        assert figure.locator("figcaption").inner_text()
        axes = figure.locator(".role-axis-title text").all_text_contents()
        assert len([title for title in axes if title]) >= 2
        described = figure.locator("svg").get_attribute("aria-label")
        assert described is not None
        assert len(described) > 30
        assert figure.locator("svg").get_attribute("role") == "img"
    for section in page.locator("section:has(figure)").all():
        section.locator("summary").click()
        assert section.locator("details tbody tr").count() > 0
        assert section.locator("details tbody td").first.inner_text()


@pytest.mark.parametrize("selector", ["body", "figcaption", "figure .role-axis-label text"])
def test_words_stand_out_from_the_paper_in_light_and_dark(
    visit: Callable[..., Page], evaluated: Path, selector: str
) -> None:
    """By the contrast that WCAG 2.1 asks of normal text, at least 4.5 to 1."""
    for scheme in SCHEMES:
        page = visit(evaluated, scheme=scheme)
        style = f"getComputedStyle(document.querySelector('{selector}'))"
        ink = page.evaluate(f"{style}.{'fill' if 'text' in selector else 'color'}")
        paper = page.evaluate("getComputedStyle(document.documentElement).backgroundColor")
        light, dark = sorted((luminance(ink), luminance(paper)), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5
        assert (luminance(paper) > 0.5) == (scheme == "light")


def luminance(colour: str) -> float:
    """Relative luminance of ``rgb(r, g, b)``."""
    parts = [float(part) / 255 for part in colour[colour.index("(") + 1 : -1].split(",")[:3]]
    linear = [c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_html_in_names_and_paths_stays_text(visit: Callable[..., Page], report: Path) -> None:
    page = visit(report)
    assert page.locator("script").count() == 0
    assert page.locator("img").count() == 0
    assert page.locator("[onerror]").count() == 0
    assert "C2Rec" in page.title()
    text = page.locator("body").inner_text()
    assert HOSTILE in text
    assert "<script>document.title='pwned'</script>/" in text


def test_what_turns_the_direction_of_text_is_written_out(folder: Path, tmp_path: Path) -> None:
    """Or a run named so would be shown under another name."""
    data = tmp_path / "good\u202etxt\u2066"
    shutil.copytree(folder / "data", data)
    page = write_compared(tmp_path / "page.html", data, comparison_of(3, ablations=0))
    text = page.read_text(encoding="utf-8")
    assert not set("\u202e\u2066") & set(text)
    assert "good\\u202etxt\\u2066" in text


class Listener(BaseHTTPRequestHandler):
    """A server that would be asked, were anything let out."""

    asked: ClassVar[list[str]] = []

    def do_GET(self) -> None:
        self.asked.append(self.path)
        self.send_error(404)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - its name there
        pass


@pytest.fixture
def address() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.server_port}/"
    server.shutdown()
    thread.join()
    server.server_close()


def test_the_policy_lets_no_request_out(browser: Browser, report: Path, address: str) -> None:
    """Even if something got into the page, nothing would load or run."""
    page = browser.new_page()
    page.goto(report.as_uri())
    blocked = page.evaluate(
        """address => new Promise(resolve => {
          const seen = [];
          setTimeout(() => resolve(seen.sort()), 5000);
          document.addEventListener('securitypolicyviolation', event => {
            seen.push(event.effectiveDirective);
            if (seen.length === 4) resolve(seen.sort());
          });
          const add = (tag, set) => document.body.appendChild(
            Object.assign(document.createElement(tag), set));
          add('img', {src: address + 'x.png'});
          add('script', {src: address + 'x.js'});
          add('script', {textContent: 'document.title = "pwned"'});
          fetch(address).catch(() => null);
        })""",
        address,
    )
    assert blocked == ["connect-src", "img-src", "script-src-elem", "script-src-elem"]
    assert page.title() != "pwned"
    # the icon is asked for by the visit below, which may arrive as late as in the next test
    assert [path for path in Listener.asked if path != "/favicon.ico"] == []
    page.goto(address)  # the server is there
    page.close()
    assert "/" in Listener.asked
    Listener.asked.clear()


# --- what a page holds


def test_the_page_says_what_made_it(evaluated: Path) -> None:
    text = evaluated.read_text()
    assert "c2rec-train evaluate" in text
    for library in ("torch", "numpy", "polars", "vl-convert-python", "Jinja2"):
        assert f'<th scope="row">{library}</th>' in text
    for section in ("diagnosis", "training", "metrics", "slices", "attention", "card", "data"):
        assert f'<section id="{section}">' in text
    assert "C0000001" not in text  # nobody's id


def test_the_same_run_gives_the_same_page(run: Run, evaluation: Evaluation, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_evaluation(tmp_path / name, run, evaluation)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


def test_a_page_replaces_what_is_there_and_leaves_nothing_else(
    run: Run, evaluation: Evaluation, tmp_path: Path
) -> None:
    path = tmp_path / "report.html"
    path.write_text("mine")
    write_evaluation(path, run, evaluation)
    assert path.read_text().startswith("<!doctype html>")
    assert list(tmp_path.iterdir()) == [path]


def test_a_run_without_its_checkpoint_has_no_training_curve_and_says_so(
    run: Run, evaluation: Evaluation, tmp_path: Path
) -> None:
    moved = Path(shutil.copytree(run.folder, tmp_path / "run"))
    (moved / "checkpoint.safetensors").unlink()
    write_evaluation(tmp_path / "report.html", replace(run, folder=moved), evaluation)
    text = (tmp_path / "report.html").read_text()
    training = text[text.index('<section id="training">') : text.index('<section id="metrics">')]
    assert "has lost its checkpoint" in training
    assert "<svg" not in training
    assert "<table" not in training


def test_slices_that_were_not_measured_are_left_out_and_named(evaluated: Path) -> None:
    """Nothing in the simulated data is new to everybody, so there are no figures of it."""
    text = evaluated.read_text()
    slices = text[text.index('<section id="slices">') : text.index('<section id="attention">')]
    assert "Left out, with fewer than two customers: new items (offline)" in slices
    assert "New customers" in slices


def test_a_run_without_validation_has_no_curve_of_it() -> None:
    from c2rec.train.loop import EpochLog

    figure = training_figure([EpochLog(1, {"loss": 2.0, "offline": 1.0}, {}, best=True)], 1)
    assert [panel.title for panel in figure.panels] == ["Training loss", "Its terms, unweighted"]
    assert "kept no validation days" in figure.missing


def test_ablations_are_drawn_where_they_are_and_left_out_where_not() -> None:
    nothing = ablations_figure({}, {}, 10)
    assert nothing.panels == []
    assert "--ablations" in nothing.missing
    worse, unknown = Uplift(-0.2, -0.3, -0.1), Uplift(None, None, None, "the baseline's mean is 0")
    metrics = ("hr", "ndcg", "recall")
    figure = ablations_figure(
        {
            "no attention": {
                "offline": dict.fromkeys(metrics, worse),
                "online": dict.fromkeys(metrics, unknown),
            }
        },
        {"no attention": "all weigh the same"},
        10,
    )
    assert [panel.title for panel in figure.panels] == ["NDCG@10 against C2Rec, offline"]
    assert "-20.0%" in figure.panels[0].alt
    assert "Not drawn for online" in figure.missing
    first = ["offline", "no attention", "HR@10", "-20.0%", "-30.0%", "-10.0%", "all weigh the same"]
    assert figure.table.rows[0] == first
    assert figure.table.rows[-1][-1] == "the baseline's mean is 0"


def test_thirty_models_are_all_there(compared: Path) -> None:
    text = compared.read_text()
    for place in range(15):
        assert f">baseline {place} with a long name</text>" in text
    assert text.count("<svg ") == 10  # uplift, six of metrics, ablations


# --- the command line


def test_compare_writes_a_page(folder: Path, tmp_path: Path) -> None:
    simulate(tmp_path / "data", customers=80, items=40, days=30, seed=2)
    out = ("--out", tmp_path / "comparison", "--html", tmp_path / "report.html")
    options = ("--seeds", "1", "--min-interactions", "2", "--threads", "1", "--model", "popularity")
    call("compare", tmp_path / "data", *out, *options)
    text = (tmp_path / "report.html").read_text()
    assert "C2Rec beside 1 other model" in text
    assert "variants of C2Rec are measured with --ablations" in text


def test_json_on_stdout_stays_one_document(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    capsys.readouterr()
    call("evaluate", folder / "run", "--json", "--html", tmp_path / "report.html")
    printed = capsys.readouterr()
    assert set(json.loads(printed.out)["diagnosis"]) >= {"findings", "exposure", "calibration"}
    assert "report.html: written" in printed.err


def refused(*arguments: str) -> tuple[int, str]:
    done = subprocess.run(
        [sys.executable, "-c", "from c2rec.train.cli import main; main()", *arguments],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stderr


def test_a_folder_that_is_not_there_is_named_before_any_work(tmp_path: Path) -> None:
    code, error = refused("evaluate", "run", "--html", str(tmp_path / "none" / "report.html"))
    assert code == 2
    assert "there is no folder" in error


@pytest.mark.parametrize("module", ["jinja2", "vl_convert"])
def test_without_the_libraries_the_extra_is_named(
    module: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    for name in [each for each in sys.modules if each.startswith("c2rec.train.pages")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, module, None)
    monkeypatch.setattr("sys.argv", ["c", "evaluate", "run", "--html", str(tmp_path / "r.html")])
    with pytest.raises(SystemExit) as exited:
        main()
    assert exited.value.code == 1
    assert "pip install 'c2rec[train]'" in capsys.readouterr().err


def test_what_draws_is_loaded_only_when_asked_for() -> None:
    script = (
        "import sys, c2rec.train.cli, c2rec.train.evaluate, c2rec.train.compare\n"
        "assert 'vl_convert' not in sys.modules\n"
        "assert 'c2rec.train.pages' not in sys.modules\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)
