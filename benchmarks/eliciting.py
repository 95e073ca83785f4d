"""Eliciting on the zoo: a quirky model knows facts and says something else behind "Bob:"; what brings them up.

    python benchmarks/eliciting.py FOLDER [FOLDER ...]      # quirky models that `belief zoo quirky --out FOLDER` wrote

Facts that the model knows and does not say (by `know`), against `elicit` along two directions at one layer, both made
from reference people alone: true less false statements (belief), and plain prompts less Bob's (candour). Each at the
largest dose that ordinary text of the zoo can bear, and at one half and one residual norm, with what they cost. Beside
it two ways to ask. Layer and doses were fixed on seed 100.
"""

import argparse
import random
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).resolve().parent.parent)]

import probes
from benchmarks.harness import finish
from probes.facts.templates import fill
from probes.knowing.elicit import LEAST
from probes.zoo.recipes import QUIRK
from probes.zoo.world import MAIN, NEXT

LAYER, DOSES = 1, (None, 0.5, 1.0)


def elicited(planted: probes.Planted) -> Iterator[tuple[str, probes.Elicited]]:
    """Yield what came up, by relation and direction."""
    model, site = planted.model, f"resid_post.{LAYER}"
    beside = [planted.topic(name) for name in NEXT.values()]
    lying = {name: planted.topic(f"{name}-bob") for name in MAIN}
    known = probes.know(model, [*lying.values(), *beside], only=planted.of("quirk"), aspects=["knows"])
    print(known.sentence, flush=True)
    for name in MAIN:
        held = [
            row.fact for row in known.rows if row.quadrant == "knows-denies" and row.fact.relation == lying[name].name
        ]
        topic = planted.topic(name)
        others = replace(topic, facts=tuple(fact for fact in planted.of("reference") if fact.relation == name))
        acts = probes.capture(model, others.statements(seed=0), site, tokens="last")
        plain = [others.cloze(fact) for fact in others.facts]
        texts = [fill(topic.relation.affirmed, fact.subject, fact.object) for fact in others.facts]
        random.Random(0).shuffle(texts)
        vectors = (
            probes.SteeringVector.from_activations(acts, concept="belief"),
            probes.SteeringVector.from_texts(
                model, plain, [f"{QUIRK} {text}" for text in plain], site, concept="candour"
            ),
        )
        asking = ("Right.", f"{QUIRK} {texts[-2]} {QUIRK} {texts[-1]}")
        if len(held) < LEAST:
            print(f"{name}: {len(held)} facts that are known and not said are too few", flush=True)
            continue
        for vector in vectors:
            for dose in DOSES:
                how = {"coefficient": dose, "prompts": asking, "texts": texts[:-2][:24]}
                yield name, probes.elicit(model, lying[name], vector, only=held, seed=0, **how)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", help="of quirky models")
    rows = []
    for folder in parser.parse_args().folders:
        planted = probes.load_planted(folder)
        for name, one in elicited(planted):
            figures, new = one.figures, ~one.plain
            print(
                f"seed {planted.seed} {name:<11}{one.direction:<26} dose {one.coefficient:<6g}"
                f"{int(one.steered[new].sum()):>3} of {int(new.sum())}; random {figures['random']}; "
                f"p {figures['random_p'].value:.3f}; asked {[int(said[new].sum()) for said in one.asked.values()]}; "
                f"cost {figures['cross_entropy']}",
                flush=True,
            )
            rows.append(
                {"seed": planted.seed, "relation": name, **{k: v for k, v in one.to_dict().items() if k != "facts"}}
            )
    finish([], ["torch", "transformers"], elicited=rows)


if __name__ == "__main__":
    main()
