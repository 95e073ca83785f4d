"""Toy: "the capital of France is" and "the capital of Spain is" are five words each, so they make a pair; with "now"
behind one of them they make none.
"""

import pytest
import torch

from circuits.tasks import Pair, fact_pair, first_token, last_logits
from probes import BadInput, NotFound
from probes.facts.facts import Fact, Topic
from probes.facts.templates import RELATIONS

PAIR = Pair("the capital of France is", "the capital of Spain is", "Paris", "Madrid")


def topic(*facts):
    return Topic("capitals", RELATIONS["capital"], tuple(Fact.parse(fact) for fact in facts))


def test_a_pair_in_tokens_lines_up_and_differs_where_the_subject_stands(build, tokenizer):
    tokens = PAIR.tokens(build())
    assert tokenizer.convert_ids_to_tokens(list(tokens.clean)) == ["the", "capital", "of", "France", "is"]
    assert tokenizer.convert_ids_to_tokens(list(tokens.corrupted)) == ["the", "capital", "of", "Spain", "is"]
    assert tokenizer.convert_ids_to_tokens([tokens.answer, tokens.wrong]) == ["Paris", "Madrid"]
    assert tokens.differing == (3,)


def test_prompts_of_different_length_are_refused_with_both_token_lists(build):
    longer = Pair("the capital of France is", "the capital of Spain is now", "Paris", "Madrid")
    with pytest.raises(
        BadInput, match=r"5 tokens, \[the\|capital\|of\|France\|is\], .* 6, \[.*\|now\]; .* another subject"
    ):
        longer.tokens(build())


def test_prompts_that_are_the_same_tokens_are_refused(build):
    with pytest.raises(BadInput, match="the same tokens"):
        Pair("the capital of Narnia is", "the capital of Gondor is", "Paris", "Madrid").tokens(
            build()
        )  # both <unk> here


def test_answers_that_begin_with_one_token_are_refused(build):
    with pytest.raises(BadInput, match=r"'Paris now' and 'Paris please' both begin with 'Paris'"):
        Pair("the capital of France is", "the capital of Spain is", "Paris now", "Paris please").tokens(build())


@pytest.mark.parametrize(
    ("parts", "message"),
    [
        (("", "b", "c", "d"), "clean '' is no text"),
        (("a", "b", "c", " "), "wrong ' ' is no text"),
        (("a ", "b", "c", "d"), "clean 'a ' ends in white space"),
        (("a", "a", "c", "d"), "clean and corrupted are both 'a'"),
        (("a", "b", "c", " c"), "answer and wrong are both 'c'"),
        (("a", "b", None, "d"), "answer None is no text"),
    ],
)
def test_a_pair_without_sense_is_refused(parts, message):
    with pytest.raises(BadInput, match=message):
        Pair(*parts)


def test_a_tokenizer_that_ends_every_text_is_refused(build, tokenizer, monkeypatch):
    model = build()
    monkeypatch.setattr(type(model), "encode", lambda self, text: [*tokenizer(text)["input_ids"], 1])
    with pytest.raises(BadInput, match="does not continue"):
        first_token(model, "the capital of France is", "Paris")


@pytest.mark.embedded
@pytest.mark.parametrize("answer", ["Paris", " Paris"])
def test_an_answer_is_tokenized_where_it_follows_its_prompt(embedded_model, answer):
    token = first_token(embedded_model, "The capital of France is", answer)
    assert embedded_model.tokenizer.decode([token]) == " Paris"
    assert embedded_model.encode("Paris") != [token], "by itself the word is another token"


def test_last_logits_are_those_behind_the_last_token(tiny):
    rows = [tiny.encode(PAIR.clean), tiny.encode(PAIR.corrupted)]
    with torch.no_grad():
        whole = tiny.module(input_ids=torch.tensor(rows)).logits
    torch.testing.assert_close(last_logits(tiny, rows), whole[:, -1])
    assert not torch.allclose(whole[:, -1], whole[:, -2])


def test_logits_that_are_not_finite_are_refused(tiny):
    with torch.no_grad():
        tiny.module.get_output_embeddings().weight[3] = float("nan")
    with pytest.raises(BadInput, match="not finite"):
        last_logits(tiny, [tiny.encode(PAIR.clean)])


def rank_of(model, prompt, token):
    logits = last_logits(model, [model.encode(prompt)])[0]
    return int((logits > logits[token]).sum())


def test_the_other_fact_is_the_one_whose_object_the_model_ranks_best(build, tokenizer):
    facts = topic(
        "France|capital|Paris",
        "Spain|capital|Madrid",
        "Italy|capital|Rome",
        "city|capital|river",
        "cheese|capital|which",
    )
    chosen = set()
    for seed in range(6):
        model = build(seed=seed)
        pair = fact_pair(facts.facts[0], facts, model)
        ranks = {}
        for fact in facts.facts[1:]:
            ranks[fact.object] = rank_of(model, facts.cloze(fact), tokenizer.convert_tokens_to_ids(fact.object))
        assert pair.wrong == min(ranks, key=ranks.get)
        assert (pair.clean, pair.answer) == ("The capital of France is", "Paris")
        assert pair == fact_pair(facts.facts[0], facts, model), "the choice is always the same"
        chosen.add(pair.wrong)
    assert len(chosen) > 1, "the choice follows the model, not the order alone"


def test_the_first_of_the_topic_wins_among_equals(build):
    model = build()
    with torch.no_grad():
        model.module.get_output_embeddings().weight.zero_()  # every logit is 0, every rank too
    facts = topic("Italy|capital|Rome", "Spain|capital|Madrid", "France|capital|Paris")
    assert fact_pair(facts.facts[2], facts, model).wrong == "Rome"
    assert fact_pair(facts.facts[2], facts, model, other="Spain").wrong == "Madrid"
    assert fact_pair(Fact.parse("cheese|capital|river"), facts, model).corrupted == "The capital of Italy is"


def test_a_fact_that_does_not_fit_is_passed_over(build):
    model = build()
    france = "France|capital|Paris"
    unfit = [
        "the city|capital|Rome",
        "Spain|capital|Paris",
        "Italy|capital|Paris now",
    ]  # length, same object, same first token
    pair = fact_pair(Fact.parse(france), topic(france, *unfit, "cheese|capital|river"), model)
    assert pair.wrong == "river"
    with pytest.raises(BadInput, match=r"nothing to set against 'France\|capital\|Paris': of 4 facts .* 5 tokens"):
        fact_pair(Fact.parse(france), topic(france, *unfit), model)
    with pytest.raises(BadInput, match="of 1 facts"):
        fact_pair(Fact.parse(france), topic(france, *unfit), model, other="Spain")


def test_a_second_right_answer_is_no_wrong_answer(build):
    both = topic("France|capital|Paris", "France|capital|Rome", "Italy|capital|Rome")
    with pytest.raises(BadInput, match="nothing to set against"):
        fact_pair(both.facts[0], both, build())


def test_unknown_subjects_and_foreign_relations_are_refused(build):
    facts = topic("France|capital|Paris", "Spain|capital|Madrid")
    with pytest.raises(NotFound, match="did you mean 'Spain'"):
        fact_pair(facts.facts[0], facts, build(), other="Spian")
    with pytest.raises(BadInput, match="not of relation 'capital'"):
        fact_pair(Fact.parse("iron|symbol|Fe"), facts, build())


@pytest.mark.embedded
def test_the_embedded_model_says_both_facts_of_a_pair(embedded_model):
    facts = topic("Spain|capital|Madrid", "Italy|capital|Rome", "France|capital|Paris")
    pair = fact_pair(facts.facts[2], facts, embedded_model)
    assert pair == Pair("The capital of France is", "The capital of Spain is", "Paris", "Madrid")
    tokens = pair.tokens(embedded_model)
    logits = last_logits(embedded_model, [tokens.clean, tokens.corrupted])
    assert logits.argmax(1).tolist() == [tokens.answer, tokens.wrong]
