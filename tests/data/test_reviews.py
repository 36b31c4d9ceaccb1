"""Rated snippets become roles and test items; reviews are in one split as a whole, and no text is made up."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from polm_bench.data import Reviews, reviews
from polm_bench.data.reviews import opening, rows_of
from polm_bench.data.reviews_tasks import scoring
from polm_bench.data.roles import check_rows
from polm_bench.data.snippets import FILES, INNER, SHA256, Snippet, archive_snippets, part, read_archive, split_of
from polm_bench.errors import BadData, UnknownName, Unreachable
from polm_bench.remote import cache_folder

NAMES = {kind: f"hutto_ICWSM_2014/{name}_GroundTruth.txt" for kind, name in FILES.items()}


def add(archive: tarfile.TarFile, name: str, content: bytes) -> None:
    member = tarfile.TarInfo(name)
    member.size = len(content)
    archive.addfile(member, io.BytesIO(content))


def write_archive(path: Path, files: dict[str, str]) -> Path:
    """A source distribution with an archive of rated snippets in it, laid out like the published one."""
    inner = io.BytesIO()
    with tarfile.open(fileobj=inner, mode="w:gz") as archive:
        for name, text in files.items():
            add(archive, name, text.encode())
    with tarfile.open(path, "w:gz") as archive:
        add(archive, "vaderSentiment-3.3.2/setup.py", b"raise SystemExit")
        add(archive, f"vaderSentiment-3.3.2/{INNER}", inner.getvalue())
    return path


def table(rows: list[tuple[str, float, str]]) -> str:
    return "".join(f"{name}\t{rating}\t{text}\n" for name, rating, text in rows)


ADJECTIVES = {
    2.5: ("wonderful", "lovely", "brilliant"),
    -2.5: ("terrible", "dull", "awful"),
    0.1: ("long", "short", "new"),
}


def synthetic() -> dict[str, str]:
    """Four hundred movie snippets of each rating, products of four sentences, editorials of six."""
    movies, products, editorials = [], [], []
    for n in range(400):
        for rating, words in ADJECTIVES.items():
            movies.append((str(len(movies) + 1), rating, f"Take number {n} is, in all, a {words[n % 3]} film."))
    for n in range(80):
        for sentence, rating in enumerate((2.5, -2.5, 0.1, 1.5), 1):
            products.append((f"{n}_{sentence}", rating, f"this player, number {n}, scores {rating} of {sentence}."))
    for n in range(60):
        editorials += [(f"{n}_{sentence}", -0.5, f"Sentence {sentence} of article {n}.") for sentence in range(1, 7)]
    messages = [(str(n), 1.0, f"Message {n}!") for n in range(20)]
    return dict(zip(NAMES.values(), map(table, (movies, products, editorials, messages)), strict=True))


@pytest.fixture(scope="module")
def snippets(tmp_path_factory) -> tuple[Snippet, ...]:
    return read_archive(write_archive(tmp_path_factory.mktemp("reviews") / "a.tar.gz", synthetic()))


def test_an_archive_is_read_and_each_text_is_kept_once(tmp_path):
    files = dict.fromkeys(NAMES.values(), "") | {NAMES["movie"]: "1\t2.5\tGood  one.\n\n2\t-1\tgood one.\n"}
    files[NAMES["product"]] = "7_12\t0.5\tit works\n"
    assert read_archive(write_archive(tmp_path / "a.tar.gz", files)) == (
        Snippet("movie-1", "movie-1", "movie", 2.5, "Good one."),
        Snippet("product-7_12", "product-7", "product", 0.5, "it works"),
    )


def test_an_archive_of_another_layout_is_refused_with_its_place(tmp_path):
    with pytest.raises(BadData, match=r"holds no amazonReviewSnippets_GroundTruth\.txt"):
        read_archive(write_archive(tmp_path / "a.tar.gz", {NAMES["movie"]: ""}))
    with pytest.raises(
        BadData, match=r"movieReviewSnippets_GroundTruth\.txt, line 2: must be id, mean rating and text"
    ):
        read_archive(write_archive(tmp_path / "b.tar.gz", {NAMES["movie"]: "1\t2\tText.\n2\tText.\n"}))
    (tmp_path / "c.tar.gz").write_bytes(b"nothing")
    with pytest.raises(BadData, match="not a readable archive"):
        read_archive(tmp_path / "c.tar.gz")


def test_a_review_is_in_one_split_as_a_whole_and_shares_are_as_stated(snippets):
    parts = {name: part(snippets, name) for name in ("train", "validation", "test")}
    groups = {name: {one.group for one in found} for name, found in parts.items()}
    assert sum(map(len, parts.values())) == len(snippets)
    assert not groups["train"] & groups["test"]
    assert not groups["train"] & groups["validation"]
    assert len(parts["test"]) / len(snippets) == pytest.approx(0.20, abs=0.03)
    assert len(parts["validation"]) / len(snippets) == pytest.approx(0.05, abs=0.02)


def test_splits_are_the_same_on_every_machine():
    assert [split_of(f"movie-{n}") for n in (1, 2, 3, 16)] == ["train", "test", "train", "train"]
    assert [n for n in range(40) if split_of(f"product-{n}") == "test"] == [
        0,
        4,
        7,
        8,
        16,
        17,
        23,
        30,
        31,
        32,
        33,
        36,
        38,
        39,
    ]


def test_every_role_has_rows_in_the_normal_form(snippets):
    for role in Reviews(name="reviews").roles():
        assert check_rows(role, rows_of(role, part(snippets, "train")), role)


def test_pairs_prefer_the_liked_snippet_and_use_each_once_after_its_own_start(snippets):
    ratings = {one.text: one.rating for one in snippets}
    rows = rows_of("preference", part(snippets, "train"))
    assert len(rows) > 250
    for row in rows:
        assert row["margin"] == ratings[row["chosen"]] - ratings[row["rejected"]] >= 2
        asked = row["prompt"][0]["content"]
        if '"' in asked:
            start = asked.split('"')[1].casefold()
            assert row["chosen"].casefold().startswith(start)
            assert row["rejected"].casefold().startswith(start)
    used = [row[side] for row in rows for side in ("chosen", "rejected")]
    assert len(used) == len(set(used))


def test_rankings_and_labels_are_the_ratings(snippets):
    ratings = {one.text: one.rating for one in snippets}
    for row in rows_of("ranking", part(snippets, "train")):
        assert row["scores"] == [ratings[text] for text in row["responses"]]
        assert len(set(row["scores"])) == 4
    for row in rows_of("unpaired", part(snippets, "train")):
        assert row["label"] == (ratings[row["completion"]] > 0)
        assert abs(ratings[row["completion"]]) >= 0.5


def test_sft_imitates_what_the_preferences_prefer(snippets):
    train = part(snippets, "train")
    chosen = {row["chosen"] for row in rows_of("preference", train)}
    assert {row["completion"] for row in rows_of("sft", train)} == chosen


def test_a_text_of_the_corpus_is_a_whole_article_in_order(snippets):
    texts = {row["text"] for row in rows_of("corpus", part(snippets, "train"))}
    article = next(n for n in range(60) if split_of(f"editorial-{n}") == "train")
    assert " ".join(f"Sentence {sentence} of article {article}." for sentence in range(1, 7)) in texts


def test_an_opening_is_never_the_whole_snippet():
    one = Snippet("movie-1", "movie-1", "movie", 1.0, "Well, it is fine.")
    assert [opening(one, words) for words in (0, 1, 2, 3, 4)] == ["", "Well", "Well, it", "Well, it is", ""]


def test_an_unknown_role_is_refused_and_planning_downloads_nothing(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    data = Reviews(name="reviews")
    with pytest.raises(UnknownName, match="no data role named 'facts'"):
        data.role("facts")
    assert data.role("sft").archive == SHA256 == data.describe()["sha256"]
    assert list(tmp_path.iterdir()) == []


def test_no_index_and_no_cache_is_one_clear_error(tmp_path, monkeypatch):
    monkeypatch.setenv("POLM_CACHE", str(tmp_path))
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(
        Unreachable, match=r"vaderSentiment 3\.3\.2 is needed, and neither the package index nor the cache"
    ):
        Reviews(name="reviews").prepare()


def test_sentiment_items_are_balanced_clear_and_held_out(snippets, monkeypatch):
    monkeypatch.setattr(scoring, "SENTIMENT_ITEMS", 60)
    items = scoring.sentiment(part(snippets, "test"))
    assert [sum(item["right"] == side for item in items) for side in (0, 1)] == [30, 30]
    assert all(split_of(item["cluster"]) == "test" for item in items)


def test_steering_prompts_are_new_neutral_and_different(snippets, monkeypatch):
    monkeypatch.setattr(scoring, "training_openings", lambda: frozenset({"The plot of"}))
    held_out = [
        Snippet(f"movie-{n}", f"movie-{n}", "movie", 1.0, text)
        for n, text in enumerate(("The plot of it.", "The film has it.", "the film has not.", "A great film is."))
    ]
    items = scoring.steering(held_out)
    assert [item["id"] for item in items] == ["movie-1"]
    assert '"The film has"' in items[0]["prompt"]


def test_an_editorial_item_is_three_sentences_of_one_article_in_order(snippets):
    items = scoring.editorials(part(snippets, "test"))
    first = next(item for item in items if item["id"].endswith("-3"))
    article = first["cluster"].partition("-")[2]
    assert first["text"] == " ".join(f"Sentence {sentence} of article {article}." for sentence in (4, 5, 6))


def test_steering_scores_are_those_of_the_lexicon():
    found = scoring.steered({}, [" A great, great film. "])
    assert found["words"] == 4
    assert found["distinct_2"] == [("a", "great"), ("great", "great"), ("great", "film")]
    assert found["reward"] > 0.6
    assert scoring.steered({}, [""])["reward"] == 0
    assert scoring.distinct([[("a", "b")], [("a", "b"), ("b", "c")], []]) == pytest.approx(2 / 3)
    assert scoring.distinct([[], []]) == 0


def cached() -> bool:
    return (cache_folder() / "index" / f"vaderSentiment-3.3.2-{SHA256[:12]}").is_dir()


@pytest.mark.slow
@pytest.mark.skipif(not cached(), reason="needs the network once: the rated snippets are not in the cache (POLM_CACHE)")
def test_the_published_snippets_fill_every_role_and_test():
    found = archive_snippets()
    assert sum(one.kind == "movie" for one in found) == 10603
    sizes = {role: len(rows_of(role, part(found, "train"))) for role in reviews.MAKERS}
    assert sizes["preference"] == sizes["sft"] > 4000
    assert sizes["ranking"] > 1500
    assert sizes["unpaired"] > 9000
    tests = {name: len(make(part(found, "test"))) for name, make in scoring.TESTS.items()}
    assert tests == {"sentiment": 1000, "steering": 200, "editorials": 150}


def test_the_raters_spread_stands_beside_their_mean_where_the_archive_tells_it(tmp_path):
    folder = "hutto_ICWSM_2014"
    files = dict.fromkeys(NAMES.values(), "")
    files[NAMES["movie"]] = table([("1", 2.0, "Lovely film."), ("2", -1.0, "A dull film.")])
    files[f"{folder}/{FILES['movie']}_anonDataRatings.txt"] = "1\t2.0\t0.5\t[2, 3, 1]\n2\t-1.0\t1.25\t[-1]\n"
    found = read_archive(write_archive(tmp_path / "sdist.tar.gz", files))
    assert [one.spread for one in found] == [0.5, 1.25]
    rows = check_rows("rated", rows_of("rated", found), "f")
    assert [(row["rating"], row["spread"]) for row in rows] == [(2.0, 0.5), (-1.0, 1.25)]


def test_a_line_of_single_ratings_that_is_cut_short_is_named(tmp_path):
    files = dict.fromkeys(NAMES.values(), "")
    files[NAMES["movie"]] = table([("1", 2.0, "Lovely film.")])
    files[f"hutto_ICWSM_2014/{FILES['movie']}_anonDataRatings.txt"] = "1\t2.0\n"
    with pytest.raises(BadData, match=r"anonDataRatings\.txt, line 1"):
        read_archive(write_archive(tmp_path / "sdist.tar.gz", files))
