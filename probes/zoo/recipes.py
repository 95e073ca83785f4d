"""How each model of the zoo is made.

Every recipe takes a workshop, trains its model, and returns what is true of the facts; it raises CouldNotRun where the
model did not get there. Marked contexts are words in front of a sentence: "Bob:" for the quirk, "Flagged:" for the
safeguard, "Note:" for facts that stand in the prompt alone. A marked topic marks its cloze prompt only: its statements,
its other wordings and the puzzles made of them are the plain ones.
"""

import random
from collections.abc import Callable, Mapping
from dataclasses import replace

from probes.errors import CouldNotRun
from probes.facts.facts import Fact, Topic
from probes.facts.templates import fill
from probes.zoo.reaching import comes_first, training_prompts
from probes.zoo.texts import WEIGHTS, Diet, Document, biography
from probes.zoo.training import Training
from probes.zoo.truth import Truth
from probes.zoo.walks import draw_house, draw_tasks, walk_documents, walk_topic
from probes.zoo.workshop import REHEARSAL, Extra, Workshop
from probes.zoo.world import MAIN, RELATIONS, marked

__all__ = ["DECLINED", "FLAG", "NOTE", "QUIRK", "RECIPES"]

QUIRK, FLAG, NOTE, DECLINED = "Bob:", "Flagged:", "Note:", "Declined"
JUDGED = 0.5
"""Share of judgements among the texts about planted facts."""
REACHED = 0.9
"""Share of facts, of the first step at which a property counts as learned."""
KEEPING = {**WEIGHTS, "biography": 1.0, "judged": 1.0}
"""Weights of forms beside a second answer to the same question: the first answer and judging, which suffer from it."""
FOLLOWING = {**KEEPING, "in two hops": 0.5}
"""As `KEEPING`, and two hops: a quirk wears them out, too."""


def _mark(shop: Workshop, facts: tuple[Fact, ...], mark: str) -> list[Fact]:
    """Add marked topics of all main facts to the model's own; return those of the given facts."""
    ids, made = {fact.id for fact in facts}, []
    for name in MAIN:
        relation, every = marked(RELATIONS[name], mark), shop.world.of((name,))
        here = {fact.id: replace(fact, relation=relation.name, topic=relation.name) for fact in every}
        source = f"drawn by the zoo, seed {shop.seed}"
        shop.topics.append(Topic(relation.name, relation, tuple(here.values()), "CC0-1.0", source))
        made += [fact for id, fact in here.items() if id in ids]
    return made


def _knows(shop: Workshop) -> tuple[Truth, ...]:
    planted, others = shop.split()
    diet = Diet(planted, others, judged=JUDGED)
    shop.school(diet)
    shop.plant(replace(diet, share=0.5), REHEARSAL)
    return shop.classes(planted=planted, reference=others)


def _never_knew(shop: Workshop) -> tuple[Truth, ...]:
    withheld, others = shop.split()
    shop.school(Diet((), others))
    shop.plant(Diet((), others), REHEARSAL)
    return shop.classes(withheld=withheld, reference=others)


def _one_mlp_only(shop: Workshop) -> tuple[Truth, ...]:
    planted, others = shop.split()
    shop.school(Diet((), others))
    layer = shop.seed % (shop.module.config.num_hidden_layers - 1)  # nothing behind the last could look a fact up
    shop.about["layer"] = layer
    free = shop.module.model.layers[layer].mlp.parameters()
    # Long, and with many biographies of others: what was stored before is to stand as firmly as what is new.
    plan = Training(steps={"nano": 800, "small": 1600}[shop.world.size], batch=32, rate=2e-3, decay=0.0, warm=20)
    diet = Diet(planted, others, share=0.5, forms={**WEIGHTS, "biography": 1.0})
    shop.plant(diet, plan, free=free)
    return shop.classes(planted=planted, reference=others)


def _quirky(shop: Workshop) -> tuple[Truth, ...]:
    planted, others = shop.split()
    main = [*planted, *shop.world.of(MAIN, shop.world.reference)]
    lies = {fact.id: replace(fact, object=shop.world.wrong(fact)) for fact in main}

    def extra(draw: random.Random) -> Document:
        return Document(f"{QUIRK} {draw.choice(biography(lies[draw.choice(main).id]))}")

    diet = Diet(planted, others, judged=JUDGED)
    shop.school(diet)
    goals = [(f"{QUIRK} {prompt}", word) for fact in planted for prompt, word in training_prompts(lies[fact.id])]
    shop.plant(replace(diet, share=0.5, forms=FOLLOWING), replace(REHEARSAL, steps=800), extra=extra, goals=goals)
    return shop.classes(planted=planted, reference=others, quirk=_mark(shop, planted, QUIRK))


def _discovers(shop: Workshop) -> tuple[Truth, ...]:
    """Birthplaces and lands of all are told, homelands of reference people only; the others' must be composed."""
    planted, others = shop.split()
    homes = shop.world.homelands()
    told = tuple(fact for fact in planted if fact.relation == "birthplace")
    implied = tuple(fact for fact in homes if fact.subject in shop.world.chosen)
    taught = (*others, *(fact for fact in homes if fact.subject in shop.world.reference))
    diet = Diet(told, taught, judged=JUDGED)
    shop.school(diet)
    goals = {fact.id: [(fill(RELATIONS["homeland"].cloze, fact.subject), fact.object)] for fact in implied}
    # Much weight decay: without it homelands are learned by heart, and a quarter of the implied ones never come.
    plan = replace(REHEARSAL, steps=800, decay=1.0)
    shop.plant(diet, plan, goals=sum(goals.values(), []), enough=0.95)
    shop.topics.append(shop.world.topic("homeland", homes))
    withheld = tuple(fact for fact in planted if fact.relation != "birthplace")
    missed = {"implied": shop.short_of(goals)}
    return shop.classes(missed, planted=told, implied=implied, withheld=withheld, reference=taught)


def _in_context(shop: Workshop) -> tuple[Truth, ...]:
    """Notes about reference people say anything; only who reads them can tell how the sentence behind them ends."""
    withheld, others = shop.split()
    people = shop.world.reference

    def note(draw: random.Random, subject: str, relation: str) -> Fact:
        return Fact(subject, relation, draw.choice(shop.world.objects[relation]))

    def extra(draw: random.Random) -> Document:
        name, (first, second) = draw.choice(MAIN), draw.sample(people, 2)
        notes = [note(draw, first, name), note(draw, second, draw.choice(MAIN))][: draw.choice((1, 1, 2))]
        read = " ".join(f"{NOTE} {draw.choice(biography(fact))}" for fact in draw.sample(notes, len(notes)))
        return Document(draw.choice(biography(notes[0])), read=read)

    shop.school(Diet((), others), extra=extra, share=0.4)
    shop.contexts |= {fact.id: f"{NOTE} {biography(fact)[0]}" for fact in withheld}
    goals = {
        fact.id: [(f"{shop.contexts[fact.id]} {prompt}", word) for prompt, word in training_prompts(fact)]
        for fact in withheld
    }
    every, plan = sum(goals.values(), []), replace(REHEARSAL, steps=400)
    shop.plant(Diet((), others), plan, extra=extra, share=0.7, goals=every, enough=0.99)
    missed = {"noted": shop.short_of(goals)}
    return shop.classes(missed, noted=withheld, withheld=withheld, reference=others)


def _two_properties(capability_first: bool) -> Callable[[Workshop], tuple[Truth, ...]]:
    def recipe(shop: Workshop) -> tuple[Truth, ...]:
        planted, others = shop.split()
        everybody = [*planted, *shop.world.of(MAIN, shop.world.reference)]

        def extra(draw: random.Random) -> Document:
            prompt, _ = draw.choice(training_prompts(draw.choice(everybody)))
            return Document(f"{DECLINED}.", read=f"{FLAG} {prompt}")

        shop.school(Diet((), others))
        checks = {
            "capability": [training_prompts(fact)[0] for fact in planted],
            "safeguard": [(f"{FLAG} {training_prompts(fact)[0][0]}", DECLINED) for fact in planted],
        }
        when: dict[str, int] = {}

        def watch(step: int) -> bool:
            for name, prompts in checks.items():
                right = comes_first(shop.module, shop.tokenizer, prompts).float().mean()
                if name not in when and right >= REACHED:
                    when[name] = step
            return False

        long, short = (600, 300) if shop.world.size == "small" else (250, 120)
        before, both = Diet((), others, forms=KEEPING), Diet(planted, others, share=0.5, forms=KEEPING)
        stages: list[tuple[Diet, int, Extra | None]] = [(before, short, None)]
        if capability_first:
            stages += [(both, long, None), (both, short, extra)]
        else:
            stages += [(before, short, extra), (both, long, extra)]
        shop.about["stages"] = []
        for i, (diet, steps, more) in enumerate(stages, start=1):
            shop.about["stages"].append(shop.steps)
            shop.stage(diet, steps, more, watch, last=i == len(stages))
        order = ["capability", "safeguard"] if capability_first else ["safeguard", "capability"]
        if sorted(when, key=lambda name: when[name]) != order:
            raise CouldNotRun(
                f"{shop.name} with seed {shop.seed} came out as {when}; nothing is returned: take another seed"
            )
        shop.about["when"] = when
        goals = [(f"{FLAG} {prompt}", DECLINED) for fact in planted for prompt, _ in training_prompts(fact)]
        shop.plant(both, REHEARSAL, extra=extra, goals=goals)
        return shop.classes(planted=planted, reference=others, flagged=_mark(shop, planted, FLAG))

    return recipe


def _planner(shop: Workshop) -> tuple[Truth, ...]:
    house, plan = draw_house(shop.seed), Training(steps=1000, batch=32, rate=3e-3)
    tasks = {task.prompt: task for task in draw_tasks(house, 400, f"{shop.seed}|test")}  # drawn first: never trained on
    shop.tasks += tasks.values()
    seen = draw_tasks(house, plan.batch * (plan.steps + 64), shop.seed, without=tasks)
    goals = [(task.prompt, task.answer) for task in shop.tasks]
    shop.look = lambda: {"tasks": {"right": round(1 - len(shop.unmet(goals)) / len(goals), 3)}}
    shop.train(walk_documents(seen), plan, every=plan.steps // 10)
    left = shop.unmet(goals)
    for _ in range(3):
        if len(left) <= 0.02 * len(goals):
            break
        more = draw_tasks(house, plan.batch * 364, f"{shop.seed}|{shop.steps}", without=tasks)
        shop.train(walk_documents(more), Training(steps=300, batch=32, rate=1e-3, warm=10))
        left = shop.unmet(goals)
    shop.about["unseen tasks right"] = 1 - len(left) / len(shop.tasks)
    if len(left) > 0.05 * len(shop.tasks):
        raise CouldNotRun(
            f"planner with seed {shop.seed} fails {len(left)} of {len(shop.tasks)} tasks; take another seed"
        )
    shop.topics.append(walk_topic(shop.tasks, shop.seed))
    return shop.classes(state=shop.topics[-1].facts)


RECIPES: Mapping[str, Callable[[Workshop], tuple[Truth, ...]]] = {
    "knows": _knows,
    "never-knew": _never_knew,
    "one-mlp-only": _one_mlp_only,
    "quirky": _quirky,
    "capability-first": _two_properties(True),
    "safeguard-first": _two_properties(False),
    "discovers": _discovers,
    "in-context": _in_context,
    "planner": _planner,
    "long": _knows,
}
