# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Compare readers
# Which layer tells true from false, which estimator reads it best, what would score without knowledge, does it carry
# over to negated sentences, and do the numbers survive another way of reading them?
#
# `belief fetch smollm2-135m` first. About a minute on two cores.

# %%
import plotly.io

import probes

plotly.io.renderers.default = "png"              # static pictures: small, and seen everywhere
model = probes.load_model("smollm2-135m")
topic = probes.load_topic("cities")
few = slice(0, 400)                              # of 1,388 statements: enough for a look, quick on a laptop
statements = topic.statements()[few]
print(statements[0].text, "/", statements[1].text)

# %% [markdown]
# ## Which layer, which estimator
# Every layer at once. Choice on calibration entities, report on test entities, controls beside it.

# %%
acts = probes.capture(model, statements, "resid_post.*", tokens="last")
found = probes.sweep(acts, estimators=["logistic", "lda", "mass_mean"], seed=0)
found = found.with_controls(probes.controls(found, model))
probes.plots.auroc_by_layer(found)

# %%
print(found.best)
for name, estimate in found.best.controls.items():
    print(f"{probes.plots.control_words(name):<58}{estimate}")

# %% [markdown]
# ## Does it carry over to denials?
# The same probe on "The city of X is not in Y". Below .5 its sign has flipped: it read the claim, not its truth.
# A fit on both polarities mends it (TTPD is told which statements affirm and which deny).

# %%
parts = {"cities": acts, "negated": probes.capture(model, topic.statements("negated")[few], found.site)}
matrix = probes.transfer_matrix(parts, site=found.site, estimator="ttpd", unions=[("cities", "negated")], seed=0)
probes.plots.transfer_heat_map(matrix)

# %% [markdown]
# ## Scores
# Of test statements, by truth and polarity, with the boundary of the fit.

# %%
test = set(found.split.test)
kinds = {}
for suffix, part in (("", acts), (", negated", parts["negated"])):
    scores = found.best.scores(part.values[found.site])
    for label, word in ((True, "true"), (False, "false")):
        rows = [i for i, group in enumerate(part.groups) if group in test and part.labels[i] == label]
        kinds[word + suffix] = scores[rows].tolist()
probes.plots.score_histograms(kinds, target=("true", "true, negated"))

# %%
probes.plots.token_strip(probes.read(model, found.best, "The city of Lyon is in France."))

# %% [markdown]
# ## Is your own reader right?
# A reader that pads on the wrong side still returns numbers. The doctor compares it with each text alone, and names
# the fault. Here is the commonest: a batch padded on the right, read at its last position.


# %%
def careless(texts):
    batch = model.tokenizer(list(texts), return_tensors="pt", padding=True, padding_side="right")
    states = model.module(**batch, output_hidden_states=True).hidden_states
    return states[found.site.layer + 1][:, -1]


print(probes.doctor(model, found.best, [s.text for s in statements[:8]], reader=careless, dtypes=[]))
