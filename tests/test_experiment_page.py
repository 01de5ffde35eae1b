"""The HTML report of an experiment: its structure, what it says, and that it takes any text."""

from __future__ import annotations

import dataclasses
import itertools
import math
import re
from html.parser import HTMLParser

import matplotlib
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

import experiment_example
from floatfmt.experiment import page as report
from floatfmt.experiment.answer import answer
from floatfmt.experiment.differences import difference
from floatfmt.experiment.notation import estimate, fixed, number, percent, visible
from floatfmt.experiment.results import Erratum, Estimate, Experiment, Footprint, Text
from floatfmt.palette import PALETTE, contrast

VOID = {"meta", "link", "br", "img", "input", "hr"}
HOSTILE = "</script><img src=x onerror=alert(1)>&amp;\x00\x1b[31m\u202elive\u200f\ud800'\"{{ 7*7 }}"


class Node:
    """An element: its tag, attributes, children (elements and strings) and parent."""

    def __init__(self, tag: str, attributes: dict[str, str], parent: Node | None) -> None:
        self.tag, self.attributes, self.parent = tag, attributes, parent
        self.children: list[Node | str] = []

    def walk(self):
        yield self
        for child in self.children:
            if isinstance(child, Node):
                yield from child.walk()

    def all(self, *tags: str) -> list[Node]:
        return [node for node in self.walk() if node.tag in tags]

    def one(self, id: str) -> Node:
        (found,) = (node for node in self.walk() if node.attributes.get("id") == id)
        return found

    @property
    def text(self) -> str:
        parts = (child if isinstance(child, str) else child.text for child in self.children)
        return "".join(parts)

    @property
    def words(self) -> str:
        return " ".join(self.text.split())

    def is_in(self, tag: str, **attributes: str) -> bool:
        node = self
        while node.parent is not None:
            node = node.parent
            if node.tag == tag and attributes.items() <= node.attributes.items():
                return True
        return False


class Tree(HTMLParser):
    """A page as a tree; fails where an element is not closed in its parent."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.root = self.at = Node("", {}, None)
        self.feed(text)
        self.close()
        assert self.at is self.root

    def handle_starttag(self, tag, attrs):
        node = Node(tag, {name: value or "" for name, value in attrs}, self.at)
        assert len(node.attributes) == len(attrs), f"an attribute twice: {attrs}"
        self.at.children.append(node)
        if tag not in VOID:
            self.at = node

    def handle_startendtag(self, tag, attrs):
        self.at.children.append(Node(tag, dict(attrs), self.at))

    def handle_endtag(self, tag):
        assert self.at.tag == tag, f"</{tag}> in <{self.at.tag}>"
        self.at = self.at.parent

    def handle_data(self, data):
        self.at.children.append(data)


def plain(experiment: Experiment) -> Experiment:
    """The same without the pictures of weights, which take most of the time."""
    return dataclasses.replace(experiment, histograms=())


def tree(experiment: Experiment) -> Node:
    return Tree(report.page(experiment)).root


def named(experiment: Experiment, name: str):
    return next(v for v in experiment.variants if v.name == name)


def changed(experiment: Experiment, name: str, **changes) -> Experiment:
    variants = (
        dataclasses.replace(v, **changes) if v.name == name else v for v in experiment.variants
    )
    return dataclasses.replace(experiment, variants=tuple(variants))


@pytest.fixture(scope="module")
def whole() -> Experiment:
    return experiment_example.experiment()


@pytest.fixture(scope="module")
def shown(whole) -> Node:
    return tree(whole)


def hostile() -> Experiment:
    """Every text and name is one that would break a page, or is far too long."""
    e = experiment_example.experiment()
    long_word, many_words = "x" * 5000, "ab " * 1700
    texts = (HOSTILE, long_word, many_words, "\u202e" + "مرحبا بالعالم " * 5)

    def spoilt(number, v):
        written = tuple(
            Text(t.how + HOSTILE, HOSTILE, texts[number % 4] + str(number), t.perplexity)
            for t in v.texts
        )
        name = v.name if number == 0 else v.name + HOSTILE * (1 + 4 * (number % 2))
        return dataclasses.replace(v, name=name, about=HOSTILE, texts=written)

    def layers(rows):
        return tuple(dataclasses.replace(r, layer=f"{long_word}{HOSTILE}.{r.layer}") for r in rows)

    weight = e.first_weight
    return dataclasses.replace(
        e,
        model=dataclasses.replace(e.model, name=HOSTILE + long_word, tokenizer=HOSTILE),
        footprints=tuple(
            dataclasses.replace(f, name=f.name + HOSTILE, note=HOSTILE) for f in e.footprints
        ),
        first_weight=dataclasses.replace(
            weight,
            name=HOSTILE,
            after=tuple(dataclasses.replace(w, scheme=HOSTILE) for w in weight.after),
        ),
        variants=tuple(itertools.starmap(spoilt, enumerate(e.variants))),
        histograms=tuple(
            dataclasses.replace(
                h, counts={n if n == "original" else n + HOSTILE: c for n, c in h.counts.items()}
            )
            for h in e.histograms
        ),
        sensitivity=dataclasses.replace(e.sensitivity, rows=layers(e.sensitivity.rows)),
        outliers=dataclasses.replace(e.outliers, rows=layers(e.outliers.rows)),
        peer=dataclasses.replace(e.peer, name=HOSTILE, differences=(HOSTILE,)),
        text=HOSTILE,
        errata=(Erratum(HOSTILE, long_word),),
        notes=(HOSTILE, long_word),
        environment={HOSTILE: long_word},
        seconds={HOSTILE: 1.0},
        interrupted=HOSTILE,
    )


def bare() -> Experiment:
    return Experiment(model=experiment_example.experiment().model)


# --- structure ----------------------------------------------------------------------------------

KINDS = {
    "whole": experiment_example.experiment,
    "interrupted": experiment_example.interrupted,
    "infinite": experiment_example.infinite,
    "hostile": hostile,
    "bare": bare,
}


@pytest.fixture(scope="module", params=KINDS)
def any_page(request) -> str:
    return report.page(KINDS[request.param]())


def test_the_page_is_well_formed_with_unique_ids_and_links_that_lead_somewhere(any_page):
    root = Tree(any_page).root
    assert any_page.startswith("<!DOCTYPE html>")
    ids = [node.attributes["id"] for node in root.walk() if "id" in node.attributes]
    assert len(ids) == len(set(ids))
    targets = [node.attributes.get("href", "") for node in root.all("a", "use")]
    targets += [f"#{name}" for name in re.findall(r"url\(#([^)]*)\)", any_page)]
    assert targets
    assert {target.removeprefix("#") for target in targets} <= set(ids)
    labels = [node.attributes.get("aria-labelledby") for node in root.all("section")]
    assert set(labels) <= set(ids)


def test_the_page_loads_nothing_and_runs_nothing(any_page):
    root = Tree(any_page).root
    assert not root.all("script", "img", "iframe", "object", "embed", "base", "form")
    for node in root.walk():
        assert not [name for name in node.attributes if name.startswith("on") or name == "src"]
        assert node.attributes.get("href", "#").startswith(("#", "data:,"))
    (style,) = root.all("style")
    assert "url(" not in style.text
    assert "@import" not in style.text
    assert "://" not in any_page
    (policy,) = (n for n in root.all("meta") if "http-equiv" in n.attributes)
    assert policy.attributes["content"].startswith("default-src 'none'; style-src 'unsafe-inline'")


def test_headings_are_in_order_and_the_contents_list_names_every_section(any_page):
    root = Tree(any_page).root
    levels = [int(node.tag[1]) for node in root.all("h1", "h2", "h3", "h4", "h5", "h6")]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(after <= before + 1 for before, after in itertools.pairwise(levels))
    (nav,), (main,) = root.all("nav"), root.all("main")
    listed = [(a.attributes["href"], a.words) for a in nav.all("a")]
    sections = [(f"#{s.attributes['id']}", s.all("h2")[0].words) for s in main.all("section")]
    assert listed == sections
    (skip,) = (a for a in root.all("a") if a.attributes.get("class") == "skip")
    assert skip.attributes["href"] == f"#{main.attributes['id']}"


def test_every_table_has_a_caption_scopes_and_a_region_that_scrolls(any_page):
    for table in Tree(any_page).root.all("table"):
        (caption,) = table.all("caption")
        assert caption.words
        assert all("scope" in th.attributes for th in table.all("th"))
        region = table.parent
        assert (region.attributes["role"], region.attributes["tabindex"]) == ("region", "0")
        assert region.attributes["aria-label"]
        widths = {
            sum(int(cell.attributes.get("colspan", 1)) for cell in row.all("th", "td"))
            for row in table.all("tr")
        }
        assert len(widths) == 1


def test_every_picture_is_named_scales_and_takes_its_colours_from_the_page(any_page):
    for svg in Tree(any_page).root.all("svg"):
        assert svg.attributes["role"] == "img"
        assert len(svg.attributes["aria-label"]) > 20
        assert "viewbox" in svg.attributes
        assert not {"width", "height"} & svg.attributes.keys()
        for node in svg.walk():
            assert "#" not in node.attributes.get("style", "").replace("url(#", "")
            assert node.tag not in ("style", "metadata")


def test_all_sections_of_a_whole_experiment_are_there(whole, shown):
    assert len(shown.all("section")) == len(report._SECTIONS)
    assert len(shown.all("svg")) == 4 + 2 * len(experiment_example.SCHEMES)


def test_what_an_experiment_lacks_is_left_out():
    root = tree(bare())
    assert [s.attributes["id"] for s in root.all("section")] == ["summary"]
    assert "no answer" in root.one("summary").words


@pytest.mark.parametrize(
    ("part", "section"),
    [
        ("first_weight", "first-weight"),
        ("sensitivity", "sensitivity"),
        ("peer", "peer"),
        ("footprints", "footprint"),
        ("seconds", "seconds"),
    ],
)
def test_a_part_that_is_missing_takes_its_section_and_no_other(whole, part, section):
    nothing = {"footprints": (), "seconds": {}}.get(part)
    root = tree(dataclasses.replace(plain(whole), **{part: nothing}))
    ids = [s.attributes["id"] for s in root.all("section")]
    assert ids == [s.id for s in report._SECTIONS if s.id not in (section, "distributions")]


def test_the_sweep_and_the_outliers_stand_alone_too(whole):
    only_sweep = tree(dataclasses.replace(plain(whole), outliers=None)).one("llm-int8")
    only_outliers = tree(dataclasses.replace(plain(whole), sweep=None)).one("llm-int8")
    assert [h.words for h in only_sweep.all("h3")] == ["By threshold"]
    assert [h.words for h in only_outliers.all("h3")] == ["Where activations are large"]


def test_an_interruption_is_said_first_with_what_is_missing():
    root = tree(experiment_example.interrupted())
    (said,) = root.all("header")[0].all("p")
    assert "interrupted at the step “scores”" in said.words
    assert "Sensitivity by layer" in said.words
    assert "Results by scheme" not in said.words
    assert "7 were not scored" in root.one("summary").words
    assert root.one("results").words.count("not scored") == 7


# --- what it says -------------------------------------------------------------------------------


def test_the_summary_is_computed_from_the_results(whole, shown):
    said = shown.one("summary").all("p")[0].words
    assert said.startswith("5 of 11 schemes stay within 0.5 % of the original’s perplexity, 29.94")
    assert "The smallest of them, int8_row, takes 163 MB" in said
    nf4 = named(whole, "nf4")
    better = dataclasses.replace(nf4.score, ratio=Estimate(1.001, 0.0001))
    said = tree(plain(changed(whole, "nf4", score=better))).one("summary").all("p")[0].words
    assert said.startswith("6 of 11 schemes stay")
    assert "The smallest of them, nf4, takes 126 MB, 25.3 % of the original’s 498 MB" in said
    assert "changes the perplexity by +0.10 %" in said


def test_a_scheme_is_judged_by_its_distance_in_both_directions_and_its_error(whole):
    ratios = {"bf16": (0.99, 1e-4), "fp16": (1.0051, 1e-4), "nf4": (math.inf, math.nan)}
    e = whole
    for name, ratio in ratios.items():
        score = dataclasses.replace(named(e, name).score, ratio=Estimate(*ratio))
        e = changed(e, name, score=score)
    e = changed(e, "mxfp4", score=None)
    found = answer(e.variants)
    groups = {
        v.name: group
        for group in ("within", "unclear", "beyond", "unscored")
        for v in getattr(found, group)
    }
    assert (groups["bf16"], groups["fp16"], groups["nf4"]) == ("beyond", "unclear", "beyond")
    assert groups["mxfp4"] == "unscored"
    assert len(groups) == found.schemes == 11
    assert answer([v for v in e.variants if v.name != "original"]) is None


def test_every_variant_has_its_row_of_figures(whole, shown):
    table = shown.one("results").all("table")[0]
    rows = {
        row.all("th")[0].words: [td.words for td in row.all("td")] for row in table.all("tr")[1:]
    }
    assert list(rows) == [v.name for v in whole.variants]
    assert rows["nf4"] == [
        *("126 MB", "8.09", "19.43", "31.05 ± 0.43", "1.0371 ± 0.0015", "0.0357 ± 0.0011"),
        *("88.67 ± 0.22", "1.47"),
    ]
    assert rows["original"][4:7] == ["–", "–", "–"]


def test_published_footprints_say_where_they_come_from(shown):
    rows = [row.words for row in shown.one("footprint").all("tr")]
    assert any("510,342,192" in row and "the article, with its buffers" in row for row in rows)
    assert sum("this run" in row for row in rows) == 12


def test_a_footprint_is_a_share_only_of_the_same_model(whole):
    other = Footprint("another model", 10**9, 7, "elsewhere")
    root = tree(dataclasses.replace(plain(whole), footprints=(*whole.footprints, other)))
    row = root.one("footprint").all("tr")[-1]
    assert [td.words for td in row.all("td")][:3] == ["1,000,000,000", "1.00 GB", "–"]


def test_bits_are_apart_by_more_than_colour(shown):
    section = shown.one("first-weight")
    (row,) = [r for r in section.all("tr") if r.words.startswith("bf16 1 01111101 1110011")]
    fields = [span.attributes["class"] for span in row.all("span")][1:]
    assert fields == ["sign", "exponent", "fraction"]
    (style,) = shown.all("style")
    borders = re.findall(
        r"\.bits \.(?:sign|exponent|fraction) \{[^}]*border-bottom-style: (\w+)", style.text
    )
    assert len(set(borders)) == 3


def test_a_text_is_shown_once_with_its_differences_marked(whole, shown):
    section = shown.one("texts")
    articles = section.all("article")
    first, second = articles[:2]
    assert first.all("h4")[0].words.startswith("original, bf16, fp16")
    assert not first.all("mark")
    assert [mark.text for mark in second.all("mark")] == ["writer.", "writer.", "hall"]
    names = ", ".join(article.all("h4")[0].words for article in articles).split(", ")
    assert sorted(names) == sorted(2 * [v.name for v in whole.variants])
    for article in articles:
        assert article.all("p")[-1].text.startswith(experiment_example.PROMPT)


def test_differences_join_to_the_text_and_count_words():
    found = difference("one two three", "one four\n\nthree five")
    assert found.parts == [
        *(("one", False), (" ", False), ("four", True)),
        *(("\n\nthree", False), (" ", False), ("five", True)),
    ]
    assert (found.first, found.shared, found.words) == (2, 2, 4)
    assert difference("a b", "a  b")[1:] == (None, 2, 2)
    assert difference("a b", "a")[1:] == (2, 1, 1)
    assert difference("a b", "a c \n")[0][-1:] == [(" \n", False)]
    assert difference("a b", "a b \n")[1:] == (None, 2, 2)
    assert difference("", "") == ([], None, 0, 0)


@given(st.text(), st.text())
def test_differences_lose_no_character(other, text):
    parts = difference(other, text).parts
    assert "".join(part for part, _ in parts) == text
    assert not [part for part, differs in parts if differs and part != part.strip()]


def test_own_perplexities_come_with_why_they_do_not_compare(shown):
    section = shown.one("own-perplexity")
    assert "These numbers are not comparable with one another" in section.words
    rows = [row.words for row in section.all("tr")]
    assert "nf4 4.31 25.30" in rows


def test_the_peer_stands_beside_ours_with_the_differences(whole, shown):
    section = shown.one("peer")
    assert "Of 84,934,656 weight codes 1,207 are not the same" in section.words
    (row,) = (r for r in section.all("tr") if r.words.startswith("KL from the original"))
    figures = ["0.001020 ± 0.000031", "0.001070 ± 0.000032"]
    assert [td.words for td in row.all("td")] == figures
    assert [li.words for li in section.all("li")] == list(whole.peer.differences)


def test_an_erratum_is_a_claim_with_its_correction(shown):
    section = shown.one("errata")
    assert [dt.words for dt in section.all("dt")] == ["0.1 is off by 0.008"]
    assert [dd.words for dd in section.all("dd")] == ["it is off by 0.00079"]


def test_figures_that_are_not_finite_are_said_and_drawn_at_the_edge():
    root = tree(plain(experiment_example.infinite()))
    row = next(r for r in root.one("results").all("tr") if r.words.startswith("fp8_e4m3fn"))
    assert "inf ± nan" in row.words
    texts = {node.text for node in root.one("pareto").all("text")}
    assert {"fp8_e4m3fn (no finite KL)", "bf16 (0)"} <= texts
    assert "fp8_e4m3fn 163 MB, +inf %" in root.one("summary").words


def test_the_front_is_named_in_the_pictures_description(whole, shown):
    (svg,) = shown.one("pareto").all("svg")
    about = svg.attributes["aria-label"]
    names = re.findall(r"(\w+), [\d.]+ bits", about)
    assert names == ["mxfp4", "nf4", "fp8_e4m3fn", "int8_weight_only", "fp16"]
    drawn = {node.text for node in svg.all("text")}
    assert set(experiment_example.SCHEMES) <= drawn


def test_names_in_the_front_do_not_cover_each_other(whole):
    from floatfmt.experiment import plots

    with plots._drawing():
        found = [(v, v.score.kl.value) for v in whole.variants if v.score.kl]
        points = [plots._Point(v.name, v.bits_per_parameter, kl, 0, False) for v, kl in found]
        points.sort(key=lambda p: p.bits)
        figure = plots._pareto_figure(points, plots._scale([kl for _, kl in found]))
        figure.draw_without_rendering()
        boxes = [t.get_window_extent() for t in figure.axes[0].texts if t.get_text()]
    assert len(boxes) == len(points)
    assert not [1 for a, b in itertools.combinations(boxes, 2) if a.overlaps(b)]


# --- other people's text ------------------------------------------------------------------------


def test_hostile_text_is_shown_and_is_nothing_but_text():
    text = report.page(plain(hostile()))
    root = Tree(text).root
    assert HOSTILE[:40] in root.one("texts").text
    assert "{{ 7*7 }}" in root.one("texts").text
    assert not re.search(
        "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u202a-\u202e\u2066-\u2069]", text
    )
    assert "⟨U+0000⟩⟨U+001B⟩[31m⟨U+202E⟩live⟨U+200F⟩⟨U+D800⟩" in root.text
    assert text.encode()


def test_long_texts_scroll_in_a_region_of_their_own():
    root = tree(plain(hostile()))
    regions = [p for p in root.one("texts").all("p") if p.attributes.get("role") == "region"]
    assert regions
    for region in regions:
        assert len(region.text) > report.LONG_TEXT
        assert region.attributes["tabindex"] == "0"
        assert region.attributes["aria-label"]


@given(st.text(st.characters(), max_size=50))
def test_visible_text_can_be_written_and_has_no_control_character(text):
    made = visible(text)
    assert made.encode().decode() == made
    assert not [c for c in made if ord(c) < 32 and c not in "\n\t"]
    assert visible(made) == made


# --- numbers ------------------------------------------------------------------------------------


SUPERSCRIPTS = str.maketrans("⁻⁰¹²³⁴⁵⁶⁷⁸⁹", "-0123456789")


def value_of(text: str) -> float:
    head, _, exponent = text.replace("−", "-").replace(",", "").partition("·10")
    return float(f"{head}e{exponent.translate(SUPERSCRIPTS)}" if exponent else head)


@given(st.floats(-1e300, 1e300) | st.floats(-1, 1) | st.sampled_from([math.inf, math.nan]))
def test_a_written_number_is_the_number_to_its_digits(x):
    assert len(number(x)) < 20
    assert len(fixed(x, 2)) < 20
    assert value_of(number(x)) == pytest.approx(x, rel=1e-2, abs=1e-320, nan_ok=True)


@given(st.floats(), st.floats(min_value=0))
@example(0.0, 5e-324)
@example(1.7e308, 1.7e308)
@example(0.0, 1.1e-290)
def test_an_estimate_of_any_figures_is_short(value, error):
    assert len(estimate(Estimate(value, error))) < 45


@pytest.mark.parametrize(
    ("made", "text"),
    [
        (number(9.9996), "10.00"),
        (number(0.00099996), "1.00·10⁻³"),
        (number(-0.0), "−0"),
        (number(math.nan), "nan"),
        (percent(1.0), "100 %"),
        (estimate(None), "–"),
        (estimate(Estimate(1.0, 0.0)), "1.000 ± 0"),
        (estimate(Estimate(-2e-5, 3e-6)), "(−2.00 ± 0.30)·10⁻⁵"),
        (estimate(Estimate(0.9912, 0.0021), 100), "99.12 ± 0.21"),
        (estimate(Estimate(31234.0, 560.0)), "31,234 ± 560"),
    ],
)
def test_numbers_are_written_as_a_table_has_them(made, text):
    assert made.replace("\xa0", " ") == text


# --- style --------------------------------------------------------------------------------------

TEXT_COLOURS = ("ink", "muted", "accent", "second", "third")


@pytest.mark.parametrize("mode", ["light", "dark"])
@pytest.mark.parametrize("role", TEXT_COLOURS)
def test_text_has_enough_contrast(mode, role):
    shade = {name: getattr(colours, mode) for name, colours in PALETTE.items()}
    assert contrast(shade[role], shade["paper"]) >= 4.5
    assert contrast(shade["ink"], shade["mark"]) >= 4.5
    assert contrast(shade["ink"], shade["fill"]) >= 4.5  # names over an area


def test_contrast_is_that_of_wcag():
    assert contrast("#777777", "#ffffff") == pytest.approx(4.478, abs=1e-3)


def test_the_style_has_both_modes_and_uses_only_the_palettes_colours(shown):
    (style,) = shown.all("style")
    for shade in PALETTE.values():
        assert style.text.count(shade.light) == 1
        assert style.text.count(shade.dark) == 1
    assert set(re.findall("#[0-9a-f]{3,8}", style.text)) == set(itertools.chain(*PALETTE.values()))
    used = set(re.findall(r"var\(--(\w+)\)", style.text))
    assert used <= PALETTE.keys()
    for part in ("prefers-color-scheme: dark", "@media print", ":focus-visible"):
        assert part in style.text


# --- writing ------------------------------------------------------------------------------------


def test_the_same_experiment_is_the_same_page_whatever_matplotlib_is_set_to(whole):
    few = {name: whole.histograms[0].counts[name] for name in ("original", "nf4")}
    whole = dataclasses.replace(
        whole, histograms=(dataclasses.replace(whole.histograms[0], counts=few),)
    )
    page = report.page(whole)
    with matplotlib.rc_context({"font.size": 30, "axes.facecolor": "black"}):
        assert report.page(whole) == page


def test_a_page_is_written_whole_in_place_of_an_old_one(tmp_path):
    target, link = tmp_path / "report.html", tmp_path / "link.html"
    target.write_text("old")
    link.symlink_to(target)
    report.write(bare(), link)
    assert link.is_symlink()
    assert target.read_text(encoding="utf-8") == report.page(bare())
    assert sorted(p.name for p in tmp_path.iterdir()) == ["link.html", "report.html"]


def test_a_page_that_cannot_be_written_leaves_the_old_one(tmp_path, monkeypatch):
    target = tmp_path / "report.html"
    target.write_text("old")

    def fails(*_):
        raise OSError("no room")

    monkeypatch.setattr(report.os, "replace", fails)
    with pytest.raises(OSError, match="no room"):
        report.write(bare(), target)
    assert target.read_text() == "old"
    assert [p.name for p in tmp_path.iterdir()] == ["report.html"]


def test_what_cannot_be_a_report_is_said_in_a_line_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(report, "page", None)
    with pytest.raises(ValueError, match=r"out\.pdf': a report is a \.html or \.htm file"):
        report.write(bare(), tmp_path / "out.pdf")
    with pytest.raises(FileNotFoundError, match="there is no folder '.*none'"):
        report.write(bare(), tmp_path / "none" / "out.html")
    (tmp_path / "a.html").mkdir()
    with pytest.raises(IsADirectoryError, match="a folder has that name"):
        report.write(bare(), tmp_path / "a.html")
    monkeypatch.setattr(report.os, "access", lambda *_: False)
    with pytest.raises(PermissionError, match="cannot be written to"):
        report.write(bare(), tmp_path / "out.html")


@pytest.mark.parametrize("missing", ["jinja2", "matplotlib"])
def test_a_library_that_is_missing_is_named_with_how_to_get_it(tmp_path, monkeypatch, missing):
    monkeypatch.setattr(report.importlib.util, "find_spec", lambda n: None if n == missing else n)
    with pytest.raises(
        ModuleNotFoundError, match=rf"needs {missing}: pip install 'floatfmt\[torch\]'"
    ):
        report.check(tmp_path / "out.html")


def test_a_path_that_can_be_written_is_returned(tmp_path):
    assert report.check(str(tmp_path / "out.HTML")) == tmp_path / "out.HTML"
