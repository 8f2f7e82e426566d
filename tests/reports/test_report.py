import datetime
import io
import json
from pathlib import Path

import numpy as np
import pypdf
import pytest

from reports import figures
from reports.report import render

TIMESTAMP = datetime.datetime(2026, 3, 2, 14, 5, tzinfo=datetime.UTC)
SHA256 = "9f2c4d7be01a5c3388d1f0a4b6e7c2d95a1b3c4d5e6f708192a3b4c5d6e7f809"
SPECIAL = r"""#let x = $1$ *bold* _under_ @label <tag> \emph{a} "quoted" 'single' `raw` -- ~ [x] // /* */ äöüß €"""
MODELS = ("autoencoder", "isolation forest", "PCA reconstruction", "logistic regression", "random forest")


def draw_figures(folder: Path) -> None:
    """Figures of a made-up detector: 12,000 card payments, 96 of them fraud."""
    random = np.random.default_rng(7)
    labels = (np.arange(12_000) % 125 == 0).astype(int)
    noise = {model: random.normal(size=12_000) for model in MODELS}
    strength = dict(zip(MODELS, (2.6, 1.7, 1.9, 2.9, 3.4), strict=True))
    caught = random.random(12_000) < 0.75
    scores = {model: np.exp(0.6 * (noise[model] + strength[model] * labels * caught)) for model in MODELS}
    budgets = np.geomspace(1, 200, 15)
    recall = 0.9 * budgets / (budgets + 12)
    precision = 0.7 / (1 + budgets / 40)
    epochs = np.arange(40)
    falling = 0.9 * np.exp(-epochs / 8) + 0.31
    drawn = {
        "roc": figures.roc_curves(labels, scores, emphasis="autoencoder"),
        "precision_recall": figures.precision_recall_curves(labels, scores, emphasis="autoencoder"),
        "scores": figures.score_histogram(
            scores["autoencoder"],
            labels,
            4.2,
            class_names=("genuine", "fraud"),
            score_name="reconstruction error [mean squared standard deviations]",
        ),
        "scenarios": figures.grouped_bars(
            {
                model: {
                    scenario: (share, max(0, share - 0.08), min(1, share + 0.08))
                    for scenario, share in zip(
                        ("amount above 220", "terminal taken over", "card data stolen"),
                        np.clip(random.normal((0.92, 0.35, 0.5), 0.1), 0, 1),
                        strict=True,
                    )
                }
                for model in MODELS
            },
            x_label="fraud scenario",
            y_label="share detected within the budget",
        ),
        "shares": figures.share_bars(
            [f"{rank}" for rank in range(1, 11)],
            random.dirichlet((4, 2, 2, 1, 1, 0.7, 0.6, 0.5, 0.4, 0.3, 0.2, 0.1), 10),
            [
                "amount",
                "amount, card, 7 days",
                "risk, terminal, 7 days",
                "risk, terminal, 1 day",
                "payments, card, 1 day",
                "night",
                "weekend",
                "payments, card, 7 days",
                "risk, terminal, 30 days",
                "amount, card, 30 days",
                "payments, terminal, 1 day",
                "payments, terminal, 7 days",
            ],
            x_label="share of the reconstruction error",
            y_label="alert, highest first",
        ),
        "code": figures.scatter(
            random.normal(size=(12_000, 2)) * (1 + labels[:, None]) + 1.5 * labels[:, None],
            labels,
            class_names=("genuine", "fraud"),
            axis_names=("code, first unit", "code, second unit"),
        ),
        "budget": figures.budget_calibration(
            budgets,
            budgets * np.exp(random.normal(0.08, 0.06, 15)),
            validation={"card recall": recall, "card precision": precision},
            test={"card recall": recall * 0.94, "card precision": precision * 0.9},
            chosen=9,
            unit="day",
        ),
        "training": figures.learning_curves(
            {
                "seed 0": {"training": falling, "validation": falling * 1.04 + 0.0002 * epochs**1.5},
                "seed 1": {"training": falling * 1.02},
                "seed 2": {"training": falling * 0.97},
            },
            y_label="mean squared error [standard deviations²]",
            best_epoch=33,
        ),
        "network": figures.network(
            [
                ("features", (15,), 0),
                ("encoder 1", (64,), 1024),
                ("encoder 2", (16,), 1040),
                ("code", (2,), 34),
                ("decoder 1", (16,), 48),
                ("decoder 2", (64,), 1088),
                ("reconstruction", (15,), 975),
            ]
        ),
    }
    for name, svg in drawn.items():
        (folder / f"{name}.svg").write_bytes(svg)


def figure(name: str, caption: str) -> dict[str, str]:
    return {"file": f"{name}.svg", "alt": f"Plot of {name}: {caption}", "caption": caption}


def measured(value: float, spread: float = 0.03) -> dict[str, str]:
    return {"value": f"{value:.3f}", "detail": f"{value - spread:.3f} to {value + spread:.3f}"}


def column(name: str, align: str = "right") -> dict[str, str]:
    return {"name": name, "align": align}


def fraud_document() -> dict:
    results = {
        "autoencoder": ("no", 0.912, 0.412, 0.318, 0.655),
        "isolation forest": ("no", 0.853, 0.221, 0.214, 0.482),
        "PCA reconstruction": ("no", 0.868, 0.264, 0.236, 0.517),
        "amount alone": ("no", 0.702, 0.18, 0.09, 0.12),
        "logistic regression": ("yes", 0.926, 0.521, 0.301, 0.688),
        "random forest": ("yes", 0.948, 0.668, 0.337, 0.731),
    }
    alerts = [
        [
            str(rank),
            f"2018-08-{rank + 3:02d} {rank + 8:02d}:17",
            f"{4000 + 37 * rank}",
            f"{220 + 31.4 / rank:.2f}",
            f"{48.2 / rank:.1f}",
            "fraud" if rank % 3 else "genuine",
        ]
        for rank in range(1, 11)
    ]
    return {
        "title": "Card fraud found by what an autoencoder cannot rebuild",
        "subtitle": "A dense autoencoder trained on genuine payments, measured on the week that follows",
        "language": "en",
        "author": "Keras application templates",
        "verdict": [
            "Within 100 alerts a day the autoencoder finds 66 % of the compromised cards without having seen a label.",
            "It ranks payments better than an isolation forest and a PCA reconstruction; the intervals do not overlap.",
            "A random forest that was shown a week of labels finds 73 %: where labels come quickly, use them.",
            "The budget set on validation data was kept on the test week: 104 alerts a day against 100 expected.",
        ],
        "sections": [
            {
                "heading": "Results",
                "blocks": [
                    {
                        "text": "All models see the same 15 features and are measured on the same seven days. "
                        "Intervals are 95 % bootstrap intervals over days and cards; those of the autoencoder include "
                        "the three seeds."
                    },
                    {
                        "table": {
                            "caption": "Detection on the test week, 58,264 payments, 385 of them fraud.",
                            "columns": [
                                column("Model", "left"),
                                column("Uses labels", "center"),
                                column("AUC-ROC"),
                                column("Average precision"),
                                column("Card precision@100"),
                                column("Recall at budget"),
                            ],
                            "rows": [
                                [
                                    {"value": name, "detail": "mean of 3 seeds"} if name == "autoencoder" else name,
                                    labels,
                                    *map(measured, values),
                                ]
                                for name, (labels, *values) in results.items()
                            ],
                            "emphasis": [0],
                            "rules": [3],
                            "note": "Card precision@100: share of compromised cards among the 100 cards alerted "
                            "each day, averaged over the days.",
                        }
                    },
                ],
            },
            {
                "heading": "Curves",
                "blocks": [
                    {
                        "figures": [
                            figure(
                                "roc",
                                "Receiver operating characteristic; the inset widens the low false-positive "
                                "rates in which 100 alerts a day lie.",
                            ),
                            figure(
                                "precision_recall",
                                "Precision over recall; the dashed line is what alerts at random would reach.",
                            ),
                        ]
                    },
                ],
            },
            {
                "heading": "Scores and alerts",
                "blocks": [
                    {
                        "text": "A payment raises an alert where its reconstruction error reaches the threshold that "
                        "spends the budget of 100 alerts a day on the validation days."
                    },
                    {
                        "figures": [
                            figure("scores", "Scores of both classes and the threshold of the budget."),
                            figure("code", "The two units of the code; fraud lies at the rim."),
                        ]
                    },
                    {
                        "figures": [
                            figure("scenarios", "Detection by fraud scenario within the budget, with 95 % intervals.")
                        ]
                    },
                    {
                        "table": {
                            "caption": "The ten highest alerts of the test week.",
                            "columns": [
                                column("Rank"),
                                column("Time", "left"),
                                column("Card"),
                                column("Amount [€]"),
                                column("Score"),
                                column("Truth", "left"),
                            ],
                            "rows": alerts,
                        }
                    },
                    {
                        "figures": [
                            figure(
                                "shares",
                                "What made the ten highest alerts stand out: each feature's share of the error.",
                            )
                        ]
                    },
                    {
                        "figures": [
                            figure(
                                "budget",
                                "Left: alerts a day expected from the validation days and observed on "
                                "the test week. Right: what each budget buys.",
                            )
                        ]
                    },
                ],
            },
            {
                "heading": "Data",
                "blocks": [
                    {
                        "facts": [
                            [
                                "Source",
                                "Simulated card payments of the Fraud Detection Handbook (Le Borgne et al., 2022)",
                            ],
                            ["Address", "https://github.com/Fraud-Detection-Handbook/simulated-data-transformed"],
                            ["Licence", "GPL-3.0"],
                            ["SHA-256", SHA256],
                            ["Training", "2018-07-25 to 2018-07-31, 66,928 genuine payments"],
                            ["Validation", "2018-08-08 to 2018-08-14, 58,207 payments, 0.66 % fraud"],
                            ["Test", "2018-08-22 to 2018-08-28, 58,264 payments, 0.66 % fraud"],
                        ]
                    },
                ],
            },
            {
                "heading": "Model",
                "blocks": [
                    {"figures": [figure("network", "The autoencoder: heights follow the square root of the units.")]},
                    {
                        "facts": [
                            ["Activation", "ELU, linear at the output"],
                            ["Parameters", "4,209"],
                            ["Loss", "mean squared error over the standardised features"],
                        ]
                    },
                ],
            },
            {
                "heading": "Training",
                "blocks": [
                    {
                        "figures": [
                            figure(
                                "training", "Loss over the epochs; the weights of the best validation epoch were kept."
                            )
                        ]
                    },
                    {
                        "facts": [
                            ["Optimiser", "Adam, learning rate 0.001"],
                            ["Batch", "256 payments"],
                            ["Seeds", "0, 1, 2"],
                            ["Time", "41 s for each seed on two CPU cores"],
                        ]
                    },
                ],
            },
            {
                "heading": "Limits",
                "blocks": [
                    {
                        "list": [
                            "The payments are simulated: three scenarios, each simpler than what a bank meets.",
                            "The test week carries 385 frauds; one scenario only 61, which its interval shows.",
                            "A reconstruction error says that a payment is unusual, not that it is fraud. Large honest "
                            "purchases fill part of the budget.",
                        ]
                    },
                ],
            },
            {
                "heading": "How to repeat",
                "blocks": [
                    {
                        "code": "python -m applications.fraud --data-folder data/card-fraud --seeds 0 1 2 --budget 100 "
                        "--output runs/fraud --epochs 40 --batch-size 256 --learning-rate 0.001"
                    },
                    {"facts": [["Keras", "3.15.1 on TensorFlow 2.20"], ["Weights, SHA-256", SHA256[::-1]]]},
                ],
            },
        ],
    }


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("report")
    draw_figures(folder)
    return folder


@pytest.fixture(scope="module")
def fraud_pdf(folder: Path) -> bytes:
    return render(fraud_document(), folder, TIMESTAMP)


@pytest.fixture(scope="module")
def fraud_reader(fraud_pdf: bytes) -> pypdf.PdfReader:
    return read(fraud_pdf)


def read(pdf: bytes) -> pypdf.PdfReader:
    return pypdf.PdfReader(io.BytesIO(pdf))


def text_of(reader: pypdf.PdfReader) -> str:
    return " ".join(" ".join(page.extract_text() for page in reader.pages).split())


def unspaced(text: str) -> str:
    return "".join(text.split())


def elements(node: object) -> list[dict]:
    """All structure elements under a node of the structure tree, in reading order."""
    node = node.get_object() if isinstance(node, pypdf.generic.IndirectObject) else node
    if isinstance(node, list):
        return [element for child in node for element in elements(child)]
    if not isinstance(node, dict):
        return []
    return [node] * ("/S" in node) + elements(node.get("/K"))


def tagged(reader: pypdf.PdfReader, kind: str) -> list[dict]:
    return [element for element in elements(reader.root_object["/StructTreeRoot"]) if element["/S"] == kind]


def document(*blocks: dict, **parts: object) -> dict:
    return {
        "title": "Title",
        "subtitle": "Subtitle",
        "language": "en",
        "verdict": ["It works."],
        "sections": [{"heading": "Section", "blocks": list(blocks)}],
    } | parts


def table(**parts: object) -> dict:
    return {
        "table": {"caption": "Caption", "columns": [column("left", "left"), column("right")], "rows": [["1", "2"]]}
        | parts
    }


def test_report_is_tagged_and_says_what_it_is(fraud_reader):
    root = fraud_reader.root_object
    assert root["/MarkInfo"]["/Marked"].value is True
    assert root["/Lang"] == "en"
    assert "pdfuaid:part" in root["/Metadata"].get_data().decode()
    assert fraud_reader.metadata.title == fraud_document()["title"]
    assert fraud_reader.metadata.author == "Keras application templates"
    assert fraud_reader.metadata.creation_date == TIMESTAMP
    width, height = fraud_reader.pages[0].mediabox[2:]
    assert (float(width), float(height)) == pytest.approx((595.28, 841.89), abs=0.01)


def test_outline_and_headings_follow_the_sections(fraud_reader):
    headings = [section["heading"] for section in fraud_document()["sections"]]
    assert [entry.title for entry in fraud_reader.outline] == headings
    assert len(tagged(fraud_reader, "/H1")) == len(headings)
    assert len(tagged(fraud_reader, "/Title")) == 1


def test_text_is_all_there(fraud_reader):
    text = unspaced(text_of(fraud_reader))
    whole = fraud_document()
    kinds = {kind: [] for kind in ("text", "list", "code", "facts", "table", "figures")}
    for section in whole["sections"]:
        for block in section["blocks"]:
            for kind, content in block.items():
                kinds[kind].append(content)
    expected = [whole["title"], whole["subtitle"], "2026-03-02 14:05 UTC", *whole["verdict"], *kinds["text"]]
    expected += kinds["code"] + [item for items in kinds["list"] for item in items]
    expected += [part for pairs in kinds["facts"] for pair in pairs for part in pair]
    expected += [f"Table {number} {content['caption']}" for number, content in enumerate(kinds["table"], 1)]
    captions = [item["caption"] for items in kinds["figures"] for item in items]
    expected += [f"Figure {number} {caption}" for number, caption in enumerate(captions, 1)]
    for content in expected:
        assert unspaced(content) in text
    row = "autoencoder mean of 3 seeds no 0.912 0.882 to 0.942 0.412 0.382 to 0.442 0.318 0.288 to 0.348"
    assert unspaced(row) in text


def test_footer_counts_the_pages(fraud_reader):
    pages = len(fraud_reader.pages)
    for number, page in enumerate(fraud_reader.pages, 1):
        assert page.extract_text().endswith(f"{fraud_document()['title']} {number} / {pages}")


def test_figures_have_their_alt_texts_in_order(fraud_reader):
    alts = [
        item["alt"]
        for section in fraud_document()["sections"]
        for block in section["blocks"]
        for item in block.get("figures", [])
    ]
    assert [element["/Alt"] for element in tagged(fraud_reader, "/Figure")] == alts


def test_tables_have_header_rows(fraud_reader):
    scopes = [
        attribute["/Scope"] for cell in tagged(fraud_reader, "/TH") for attribute in cell["/A"] if "/Scope" in attribute
    ]
    assert scopes == ["/Column"] * (6 + 6)
    assert len(tagged(fraud_reader, "/THead")) == 2


def test_special_characters_come_out_literally(tmp_path):
    (tmp_path / "plot.svg").write_text('<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"/>')
    cell = {"value": SPECIAL, "detail": SPECIAL}
    special = document(
        {"text": SPECIAL},
        {"list": [SPECIAL]},
        {"code": SPECIAL},
        {"facts": [[SPECIAL, SPECIAL]]},
        table(caption=SPECIAL, columns=[column(SPECIAL), column("b")], rows=[[SPECIAL, cell]], note=SPECIAL),
        {"figures": [{"file": "plot.svg", "alt": SPECIAL, "caption": SPECIAL}]},
        title=SPECIAL,
        subtitle=SPECIAL,
        author=SPECIAL,
        verdict=[SPECIAL, SPECIAL],
    )
    special["sections"][0]["heading"] = SPECIAL
    reader = read(render(special, tmp_path, TIMESTAMP))
    # title, footers, subtitle, author, verdict, heading, text, item, code, fact, table, figure
    times = 1 + len(reader.pages) + 2 + 2 + 1 + 3 + 2 + 6 + 1
    assert unspaced(text_of(reader)).count(unspaced(SPECIAL)) == times
    assert reader.metadata is not None
    assert reader.metadata.title == SPECIAL
    assert [entry.title for entry in reader.outline] == [SPECIAL]
    assert [element["/Alt"] for element in tagged(reader, "/Figure")] == [SPECIAL]


def test_long_words_wrap_and_are_copied_whole(tmp_path):
    blocks = {"text": "t" * 200}, {"code": "c" * 200}, {"facts": [["name", SHA256 * 2]]}, table(rows=[["r" * 200, ""]])
    (page,) = read(render(document(*blocks), tmp_path, TIMESTAMP)).pages
    for word in ("t" * 200, "c" * 200, SHA256 * 2, "r" * 200):
        assert word not in page.extract_text()
        assert word in unspaced(page.extract_text())


def test_long_table_repeats_its_header_and_a_short_one_stays_whole(tmp_path):
    rows = [[f"row {number}", str(number)] for number in range(90)]
    pages = [page.extract_text() for page in read(render(document(table(rows=rows)), tmp_path, TIMESTAMP)).pages]
    assert len(pages) > 1
    assert all("left right" in " ".join(page.split()) for page in pages)
    filler = {"text": "\n".join(["line"] * 44)}
    first, second = read(render(document(filler, table(rows=rows[:10])), tmp_path, TIMESTAMP)).pages
    assert "row" not in first.extract_text()
    assert "Caption" not in first.extract_text()
    assert "row 9" in second.extract_text()


def test_same_input_gives_the_same_bytes(fraud_pdf, folder):
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    assert render(json.loads(json.dumps(fraud_document())), folder, TIMESTAMP) == fraud_pdf
    assert render(fraud_document(), folder, TIMESTAMP + datetime.timedelta(days=1)) != fraud_pdf
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_a_changed_figure_changes_the_report(tmp_path):
    plot = document({"figures": [{"file": "plot.svg", "alt": "a plot", "caption": "A plot"}]})
    path = tmp_path / "plot.svg"
    shape = '<svg xmlns="http://www.w3.org/2000/svg" width="9" height="9"><rect width="{}" height="9"/></svg>'
    path.write_text(shape.format(3))
    before = render(plot, tmp_path, TIMESTAMP)
    path.write_text(shape.format(6))
    assert render(plot, tmp_path, TIMESTAMP) != before


def test_missing_figure_is_named(tmp_path):
    absent = {"figures": [{"file": "absent.svg", "alt": "nothing", "caption": "Nothing"}]}
    with pytest.raises(FileNotFoundError, match=r"absent\.svg"):
        render(document(absent), tmp_path, TIMESTAMP)


@pytest.mark.parametrize(
    ("block", "message"),
    [
        ({"figures": [{"file": "plot.svg", "caption": "A plot"}]}, r"plot\.svg.*alt"),
        ({"figures": [{"file": "plot.svg", "alt": "", "caption": "A plot"}]}, r"plot\.svg.*alt"),
        ({"figures": []}, "not 0"),
        ({"figures": [{}] * 3}, "not 3"),
        ({"chart": "bars"}, "'chart'"),
        ({"text": "a", "list": []}, "one key"),
        ({"facts": [["a", "b", "c"]]}, "fact"),
        (table(rows=[["1"]]), "1 cells for 2 columns"),
        (table(rows=[["1", 2]]), "cell"),
        (table(rows=[["1", {"value": "2"}]]), "cell"),
        (table(columns=[column("a", "middle"), column("b")]), "'middle'"),
    ],
)
def test_faulty_blocks_are_refused(block, message, tmp_path):
    with pytest.raises(ValueError, match=message):
        render(document(block), tmp_path, TIMESTAMP)


def test_verdict_and_time_zone_are_required(tmp_path):
    with pytest.raises(ValueError, match="verdict"):
        render(document(verdict=[]), tmp_path, TIMESTAMP)
    with pytest.raises(ValueError, match="timezone"):
        render(document(), tmp_path, TIMESTAMP.replace(tzinfo=None))
