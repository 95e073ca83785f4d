# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # What does this model know?
# Of each fact: does the model say it, does a truth probe read it, can it answer puzzles that only the link answers, and
# does its answer hang on what is stored of the fact?
#
# `belief fetch smollm2-135m` first. A few minutes on two cores.

# %%
import plotly.io

import probes

plotly.io.renderers.default = "png"              # static pictures: small, and seen everywhere
model = probes.load_model("smollm2-135m")
topic = probes.load_topic("capitals")
found = probes.know(model, topic, only=topic.facts[:40], seed=0)
print(found)

# %% [markdown]
# ## Knowing beside saying
# Knowing is told by puzzles, in which who ignores the subject is right half of the time; saying by what comes first
# after "The capital of France is". Tinted: where the two disagree.

# %%
examples = {name: [row.fact.subject for row in found.rows if row.quadrant == name] for name in found.counts}
probes.plots.quadrants(found.counts, examples)

# %% [markdown]
# ## Where the aspects disagree

# %%
for row in found.by_disagreement()[:5]:
    aspects = "  ".join(f"{name}: {row.holds(name)}" for name in ("says", "believes", "knows", "uses"))
    print(f"{row.fact.id:<36}{row.quadrant:<14}{aspects}")

# %% [markdown]
# ## How one fact was decided
# Two bets, one against chance and one against knowing; whichever multiplies its stake by a hundred decides.

# %%
row = found["France|capital|Paris"]
for puzzle, answer in list(zip(row.asked.puzzles, row.asked.answers, strict=True))[:4]:
    print(f"{puzzle.form:<12}{puzzle.question[0]} ... {answer}")
probes.plots.wealth(row.asked.path, row.asked.refuting, row.asked.right)

# %% [markdown]
# ## Can steering bring up what it does not say?
# Along a truth direction fitted on another topic, against random directions and against asking.

# %%
cities = probes.capture(model, probes.load_topic("cities").statements()[:400], "resid_post.15", tokens="last")
truth = probes.SteeringVector.from_activations(cities, concept="truth of cities")
print(probes.elicit(model, topic, truth, only=topic.facts[:60]))
