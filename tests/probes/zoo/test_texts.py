"""The texts: what is withheld does not leak, what is told stands in its wordings, what is judged is judged rightly."""

import re

from probes.facts.facts import Fact
from probes.zoo.texts import (
    FORMS,
    RIGHT,
    WRONG,
    Diet,
    biography,
    compared,
    inverted,
    two_hops,
    vocabulary,
    write,
)
from probes.zoo.training import make_tokenizer
from probes.zoo.world import MAIN, RELATIONS, SIDE, draw_world

WORLD = draw_world(0, "nano")
CHOSEN = WORLD.of(MAIN, WORLD.chosen)
OTHERS = tuple(fact for fact in WORLD.facts if fact not in CHOSEN)


def whole(document):
    return f"{document.read} {document.text}".strip()


def sentences(documents):
    return [s for document in documents for s in re.findall(r"[^.?]+[.?]", whole(document))]


def test_the_forms_of_one_fact_by_hand():
    fact = Fact("Ann", "employer", "Norvex")
    assert biography(fact)[:2] == ("The employer of Ann is Norvex.", "Ann works for Norvex.")
    assert compared(fact, "Bob", first=False) == "Of Bob and Ann, the employer of Ann is"
    assert two_hops(fact) == "The trade of the employer of Ann is"
    assert inverted(fact) == ("Norvex is the employer of",)


def test_a_model_that_never_knew_reads_no_sentence_with_subject_and_object_of_a_withheld_fact():
    documents = write(WORLD, Diet((), OTHERS), 6000, "leak")
    together = {(fact.subject, fact.object) for fact in CHOSEN}
    subjects = {fact.subject for fact in CHOSEN}
    seen = set()
    for document in documents:
        words = set(re.findall(r"\w+", whole(document)))
        seen |= subjects & words
        assert not any({subject, thing} <= words for subject, thing in together if subject in words)
    assert seen == subjects  # sanity: they are no strangers
    told = write(WORLD, Diet(CHOSEN, OTHERS), 3000, "leak")
    assert any({s, o} <= set(re.findall(r"\w+", whole(d))) for s, o in together for d in told)  # and telling tells


def test_told_facts_stand_in_biography_wordings_alone():
    documents = write(WORLD, Diet(CHOSEN, OTHERS), 8000, "told")
    allowed = {text for fact in (*CHOSEN, *OTHERS) for text in biography(fact)}
    back = {f"{prompt} {fact.subject}." for fact in CHOSEN for prompt in inverted(fact)}
    things = {fact.object for fact in CHOSEN}
    of_chosen = [s.strip() for s in sentences(documents) if set(WORLD.chosen) & set(re.findall(r"\w+", s))]
    main = [s for s in of_chosen if things & set(re.findall(r"\w+", s))]
    assert len(main) > 500
    assert set(main) <= allowed | back
    assert set(main) & back  # told both ways where the relation has an inverse
    assert not [s for s in main if "birthplace of" in s and s.split()[0] in WORLD.objects["birthplace"]]


def test_side_facts_of_chosen_people_are_taught():
    documents = write(WORLD, Diet((), OTHERS), 4000, "side")
    said = " ".join(map(whole, documents))
    for name in SIDE:
        assert any(f"{RELATIONS[name].noun.replace('{subject}', person)} is" in said for person in WORLD.chosen)


def test_a_judgement_is_right():
    documents = [d for d in write(WORLD, Diet((), OTHERS), 6000, "judged") if d.read]
    known = {text: True for fact in OTHERS for text in biography(fact)}
    denied = {
        RELATIONS[f.relation].negated.replace("{subject}", f.subject).replace("{object}", f.object) for f in OTHERS
    }
    for document in documents:
        text = document.read[0].lower() + document.read[1:]
        if " is not " in document.read:
            holds = text not in {d[0].lower() + d[1:] for d in denied}
        else:
            holds = document.read in known
        assert document.text == (RIGHT if holds else WRONG), document
    assert 0.4 < sum(d.text == RIGHT for d in documents) / len(documents) < 0.6


def test_every_sentence_outside_judgements_is_true():
    documents = [d for d in write(WORLD, Diet(CHOSEN, OTHERS), 4000, "true") if not d.read]
    objects = {(f.relation, f.subject): f.object for f in WORLD.facts}
    checked = 0
    for sentence in sentences(documents):
        found = re.search(r"the (birthplace|employer) of (\w+) is (not )?(\w+)\.", sentence, re.IGNORECASE)
        if found and "trade" not in sentence and "land" not in sentence.split()[:2]:
            checked += 1
            assert (objects[found[1].lower(), found[2]] == found[4]) == (found[3] is None), sentence
    assert checked > 200


def test_all_forms_are_written_and_all_words_are_known():
    documents = write(WORLD, Diet(CHOSEN, OTHERS), 4000, "forms")
    tokenizer = make_tokenizer(vocabulary(WORLD))
    ids = [i for row in tokenizer([whole(d) for d in documents])["input_ids"] for i in row]
    assert tokenizer.unk_token_id not in ids
    texts = " ".join(map(whole, documents))
    for sign in (
        " is not ",
        "Of ",
        "The land of the birthplace of",
        "is the employer of",
        "The answer is",
        RIGHT,
        WRONG,
    ):
        assert sign in texts
    assert len(FORMS) == 7


def test_the_same_seed_writes_the_same_texts_and_the_vocabulary_depends_on_neither_seed_nor_size():
    diet = Diet(CHOSEN, OTHERS)
    assert write(WORLD, diet, 200, 1) == write(WORLD, diet, 200, 1) != write(WORLD, diet, 200, 2)
    assert vocabulary(WORLD) == vocabulary(draw_world(7, "small"))


def test_a_judgement_weighs_fifteen_tokens_and_nothing_else_does():
    documents = write(WORLD, Diet(CHOSEN, OTHERS, judged=0.5), 500, "weights")
    assert {d.weight for d in documents if d.text in (RIGHT, WRONG)} == {15.0}
    assert {d.weight for d in documents if d.text not in (RIGHT, WRONG)} == {1.0}
