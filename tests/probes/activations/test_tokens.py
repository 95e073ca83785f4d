"""Toy: of the chat "<user> which city <answer>" + "Paris", tokens 0 to 3 are the prompt and token 4 is the response."""

import pytest

from probes import BadInput, capture
from probes.activations.tokens import TokenRule, select_tokens

ASKED = [{"role": "user", "content": "which city"}]
ANSWERED = [*ASKED, {"role": "assistant", "content": "Paris now"}]
TEMPLATE = (
    "{% for m in messages %}{{ {'user': '<user> ', 'system': '<system> ', 'assistant': '<answer> '}[m['role']] }}"
    "{{ m['content'] }}{{ ' <eos> ' if m['role'] == 'assistant' else ' ' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<answer>' }}{% endif %}"
)


@pytest.fixture
def chatty(llama):
    """A model whose chat template marks where an answer starts and ends."""
    before, llama.tokenizer.chat_template = llama.tokenizer.chat_template, TEMPLATE
    yield llama
    llama.tokenizer.chat_template = before


def picked(model, text, tokens="all", within="text", entity=None):
    rule = TokenRule(tokens, within)
    return list(select_tokens(model, [text], rule, None if entity is None else [entity])[0].positions)


def test_prompt_and_response_of_a_chat_are_told_apart(chatty):
    words = chatty.words(chatty.encode(ANSWERED))
    assert "".join(words).split() == ["<user>", "which", "city", "<answer>", "Paris", "now", "<eos>"]
    assert picked(chatty, ANSWERED, within="prompt") == [0, 1, 2, 3]
    assert picked(chatty, ANSWERED, within="response") == [4, 5, 6]
    assert picked(chatty, ANSWERED, within=("response", "ordinary")) == [4, 5]
    assert picked(chatty, ANSWERED, "last", ("response", "ordinary")) == [5]
    assert picked(chatty, ANSWERED, 0, "response") == [4]
    assert picked(chatty, ASKED, within="prompt") == [0, 1, 2, 3], "a chat without an answer is all prompt"


def test_an_index_may_come_as_text(chatty):
    assert picked(chatty, "the capital of France", "-2") == picked(chatty, "the capital of France", -2) == [2]


def test_ordinary_tokens_leave_the_special_ones_out(chatty):
    assert picked(chatty, ANSWERED, within="ordinary") == [1, 2, 4, 5]
    assert picked(chatty, "the capital", within="ordinary") == [0, 1]


def test_an_entity_is_the_first_place_where_it_stands_among_the_tokens_that_count(chatty):
    text = "the city of Rome is not the city of Paris"
    assert picked(chatty, text, "entity", entity="city of Paris") == [7, 8, 9]
    assert picked(chatty, text, "entity", entity="city") == [1]
    assert picked(chatty, text, "entity", entity="it") == [1], "the token that holds its letters"
    twice = [*ASKED, {"role": "assistant", "content": "city Paris"}]
    assert picked(chatty, twice, "entity", entity="city") == [2]
    assert picked(chatty, twice, "entity", "response", entity="city") == [4]


def test_an_entity_that_opens_a_sentence_may_be_written_with_a_capital(embedded_model):
    text = "The Netherlands is north of Belgium."
    spans = [embedded_model.encode(text)[i] for i in picked(embedded_model, text, "entity", entity="the Netherlands")]
    assert embedded_model.tokenizer.decode(spans) == "The Netherlands"


@pytest.mark.parametrize(
    ("text", "rule", "says"),
    [
        ("the capital", {"within": "response"}, "text 0: plain text has no prompt and response"),
        (ASKED, {"within": "response"}, "none of its 4 tokens is response"),
        ([ANSWERED[1]], {"within": "response"}, "answer to nothing"),
        (ANSWERED, {"tokens": 3, "within": "response"}, "3 tokens to read, so no token 3"),
        ("the capital", {"tokens": "entity", "entity": "Rome"}, "'Rome' is not in it"),
        (ANSWERED, {"tokens": "entity", "within": "prompt", "entity": "Paris"}, "'Paris' is not among the tokens"),
        ("the capital", {"tokens": "entity", "entity": ""}, "no entity"),
        ("the capital", {"tokens": "entity"}, "give entities="),
        ("the capital", {"within": "answer"}, "within='answer' names no part"),
        ("the capital", {"tokens": "first"}, "no token rule"),
    ],
)
def test_what_is_not_there_is_refused_by_name(chatty, text, rule, says):
    with pytest.raises(BadInput, match=says):
        picked(chatty, text, **rule)


def test_a_template_that_rewrites_the_prompt_is_refused(chatty):
    chatty.tokenizer.chat_template = TEMPLATE.replace("m['content'] }}", "m['content'] if loop.last else 'word1' }}")
    with pytest.raises(BadInput, match="renders the prompt differently"):
        picked(chatty, ANSWERED, within="response")


def test_a_chat_that_is_answered_already_is_no_prompt(chatty):
    with pytest.raises(BadInput, match="prompt 1 ends with the assistant's message"):
        chatty.inputs([ASKED, ANSWERED])


def test_statements_bring_their_subjects_as_entities(llama):
    from probes import Fact, Statement

    fact = Fact("France", "capital", "Paris")
    got = capture(
        llama, [Statement("the capital of France is Paris", True, True, "g", "affirmed", fact)], tokens="entity"
    )
    assert got.position.tolist() == [3]
    assert got.polarities.tolist() == [True]
    assert got.tokens == "entity"
