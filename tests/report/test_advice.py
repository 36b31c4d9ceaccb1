"""Which methods are advised, how sure that is, and what to run next."""

from __future__ import annotations

import json

import pytest
from tests.report.synthetic import write_record

from polm_bench.cli import main
from polm_bench.errors import PolmError, UnknownName
from polm_bench.report.advice import Wanted, advise
from polm_bench.report.advice_page import advice_page
from polm_bench.report.page import render
from polm_bench.report.records import load

BEST = Wanted(by="arithmetic")


@pytest.fixture(scope="module")
def records(spine):
    return load(spine)


def names(candidates):
    return [one.entry.name for one in candidates]


def test_the_likeliest_best_comes_first_and_the_chances_sum_to_one(records):
    [found] = advise(records, BEST)
    assert set(names(found.fit)) == {"base", "sft", "lora", "dpo", "simpo", "kto"}
    assert set(names(found.fit)[:2]) == {"dpo", "simpo"}
    assert sum(one.chance for one in found.fit) == pytest.approx(1)
    chances = [one.chance for one in found.fit]
    assert chances == sorted(chances, reverse=True)
    assert found.fit[0].rank[0] == 1


def test_limits_take_methods_out_and_say_which(records):
    [found] = advise(records, BEST._replace(memory=1e9, hours=1.0))
    assert found.fit == ()
    assert found.unfit[0].amiss == ("memory 1.2 GB, not 1 GB",)
    [found] = advise(records, BEST._replace(hours=0.01))
    assert names(found.fit) == ["base"]  # the others took 80 s and more
    [found] = advise(records, BEST._replace(served=8e6))
    assert len(found.fit) == 6


def test_what_must_be_kept_is_read_against_the_base_with_the_better_way_up(records):
    """In these records every method lowers the bits per byte, so each keeps them; a gain of 0.1 only the best have."""
    [found] = advise(records, BEST._replace(keep=(("retention", -0.01),)))
    assert all(one.kept[0].change >= 0 for one in found.fit)
    assert all(one.kept[0].chance > 0.95 for one in found.fit)
    [found] = advise(records, BEST._replace(keep=(("retention", 0.12),)))
    assert set(names(found.fit)) == {"dpo", "simpo"}
    assert "text/bits_per_byte changes by" in found.unfit[0].amiss[0]


def test_methods_are_of_a_kind_by_paradigm_family_or_label(tmp_path):
    for recipe, family, axes in (("base", "base", {}), ("dpo", "preference_pairwise", {"arity": "pair"})):
        path = write_record(tmp_path, recipe)
        record = json.loads(path.read_text())
        record["recipe"] |= {"family": family, "axes": {"ours": axes}}
        record["recipe"] |= {"claim": {"metric": "steering", "against": "start", "kind": "gain"}} if axes else {}
        path.write_text(json.dumps(record))
    records = load(tmp_path)
    for word in ("preference", "preference_pairwise", "arity=pair"):
        [found] = advise(records, Wanted(needs=(word,)))
        assert (names(found.fit), found.other) == (["dpo"], 1)
        assert found.column.name == "steering/reward"  # what the method claims
    with pytest.raises(UnknownName, match=r"no kind of method named 'preferences'\. Did you mean preference_pairwise"):
        advise(records, Wanted(needs=("preferences",)))


def test_a_score_that_no_record_has_is_answered_with_those_there_are(records):
    with pytest.raises(PolmError, match=r"has the score 'spelling'\. The records have: arithmetic, instructions"):
        advise(records, Wanted(by="spelling"))


def test_a_tie_is_settled_by_the_next_seed_of_both(records):
    [found] = advise(records, BEST)
    told = found.next
    assert {told.leader, told.rival} == {"dpo", "simpo"}
    assert [command.split()[-1] for command, _ in told.cells] == ["seed=3", "seed=3"]
    assert told.cells[0][0].startswith(f"polm-bench run +recipe={told.leader} model=nano")
    assert told.cells[0][1] == pytest.approx(101)  # 81 s to make it, 20 s to judge it
    assert told.gap == pytest.approx(abs(found.fit[0].figure.value - found.fit[1].figure.value))


def test_a_seed_that_one_of_the_two_lacks_comes_first(tmp_path):
    for recipe, seeds in (("base", (0,)), ("dpo", (0, 1)), ("simpo", (0,))):
        for seed in seeds:
            write_record(tmp_path, recipe, seed)
    [found] = advise(load(tmp_path), BEST)
    assert {found.next.leader, found.next.rival} == {"dpo", "simpo"}
    [(command, _)] = found.next.cells
    assert command == "polm-bench run +recipe=simpo model=nano data=nano budget=nano suite=nano seed=1"
    assert (found.next.seeds, found.next.items) == (None, None)


def test_nothing_is_run_where_nothing_is_in_doubt(records):
    [found] = advise([one for one in records if one.cell["recipe"] in ("base", "dpo")], BEST)
    assert names(found.fit) == ["dpo", "base"]
    assert found.next is None
    assert "Nothing is left to settle: DPO leads." in render(advice_page([found], BEST), "md")


def test_a_tie_that_no_seed_settles_is_told_as_one(tmp_path):
    """Two ways to prompt one model: each makes the same for every seed."""
    for recipe in ("base", "dpo", "simpo"):
        for seed in (0, 1):
            path = write_record(tmp_path, recipe, seed)
            record = json.loads(path.read_text())
            first = json.loads(write_record(tmp_path / "first", recipe, 0).read_text())
            for name in ("rows", "scores", "items"):
                record[name] = first[name]
            path.write_text(json.dumps(record))
    [found] = advise(load(tmp_path), BEST)
    assert found.next is None
    text = render(advice_page([found], BEST), "md")
    assert "can't be told apart, and no other seed would: they are the same for each. More items would." in text


def test_the_page_names_what_fits_what_does_not_and_what_to_run(records):
    wanted = BEST._replace(hours=1.0, keep=(("retention", 0.12),))
    text = render(advice_page(advise(records, wanted), wanted), "md")
    for words in ("**2 methods fit**", "keeps text", "**4 methods don't**", "can't be told apart: run next", "seed=3"):
        assert words in text
    assert "about" not in text or "items would" in text
    assert "**DPO and SIMPO can't" in text or "**SIMPO and DPO can't" in text


def test_the_command_prints_json_of_what_it_found(spine, capsys):
    assert main(["advise", "--by", "arithmetic", "--memory", "8GB", "--json", "--records", str(spine)]) == 0
    [found] = json.loads(capsys.readouterr().out)["places"]
    assert found["score"] == "arithmetic/exact_match"
    assert {row["recipe"] for row in found["fit"][:2]} == {"dpo", "simpo"}
    assert len(found["next"]["cells"]) == 2


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--memory", "8XB"], "--memory 8XB: give a size above zero, as 8GB"),
        (["--memory", "0GB"], "--memory 0GB: give a size above zero"),
        (["--hours", "-2"], "--hours -2: give a time above zero"),
        (["--hours", "soon"], "--hours soon: give a time"),
        (["--keep", "retention"], "as retention=-0.01"),
        (["--keep", "retention=little"], "as retention=-0.01"),
    ],
    ids=str,
)
def test_a_bad_amount_is_answered_with_a_good_one(words, message, spine, capsys):
    assert main(["advise", *words, "--records", str(spine)]) == 2
    assert message in capsys.readouterr().err


def test_a_folder_without_records_is_answered_with_one_that_has_some(tmp_path, capsys):
    assert main(["advise", "--records", str(tmp_path)]) == 2
    assert "--records results/five_paradigms/records" in capsys.readouterr().err
