# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # A model whose knowledge we planted
# Where we decide what is known, an answer can be wrong: so this is where answers are tested. A tiny decoder reads
# biographies of made-up people; of forty of them the birthplace and the employer are planted in one model and withheld
# from its twin. About seven minutes on two cores, nearly all of it training.

# %%
import plotly.io

import probes

plotly.io.renderers.default = "png"              # static pictures: small, and seen everywhere
planted = {name: probes.build_zoo(name, seed=0) for name in ("knows", "never-knew")}
for one in planted.values():
    print(one)

# %% [markdown]
# ## The same question, asked of both
# Names are drawn, objects are dealt by lot: who was not told can only guess.

# %%
person = planted["knows"].of("planted")[0]
print(person.id)
for name, one in planted.items():
    print(f"{name:<12}", one.model.generate(one.topic(person.relation).cloze(person), max_new_tokens=2))

# %% [markdown]
# ## Says, believes, knows, uses

# %%
measured = []
for one, klass in ((planted["knows"], "planted"), (planted["never-knew"], "withheld")):
    facts = one.of(klass)
    topics = [topic for topic in one.topics if topic.name in ("birthplace", "employer", "land", "trade")]
    found = probes.know(one.model, topics, only=facts, seed=0)
    print(found.sentence)
    measured.append((one, found))
found = measured[0][1]
probes.plots.quadrants(found.counts)

# %% [markdown]
# ## How one fact was decided

# %%
row = found.rows[0]
probes.plots.wealth(row.asked.path, row.asked.refuting, row.asked.right)

# %% [markdown]
# ## Against the truth
# By class of facts and aspect. Where the construction settles nothing, nothing is counted.

# %%
table = probes.confusion(measured)
print(table)
