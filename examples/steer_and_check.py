# ---
# jupyter:
#   kernelspec: {display_name: Python 3, language: python, name: python3}
# ---

# %% [markdown]
# # Steer it, and check
# A direction that reads a fact need not be one that the model uses. So a vector gets a receipt: how far does a dose of
# it move answers, beside random directions of the same length, and what does it cost?
#
# `belief fetch smollm2-135m` first. About a minute on two cores.

# %%
import dataclasses

import plotly.io

import probes
from probes.steering.receipt import MEANINGS, bar_words

plotly.io.renderers.default = "png"              # static pictures: small, and seen everywhere
model = probes.load_model("smollm2-135m")
topic = probes.load_topic("capitals")
fact = next(fact for fact in topic.facts if fact.subject == "Germany")
vector = probes.fact_vector(model, topic, fact, "resid_post.23")
print(vector)

# %% [markdown]
# ## Add it, take it out
# While a context is open, in a forward pass and in `generate` with its cache; afterwards the model is as it was.

# %%
prompt = "The capital of Spain is"
said = [model.generate(prompt, max_new_tokens=8)]
for coefficient in (0.1, 0.3):
    with probes.steer(model, vector, coefficient, tokens="last"):
        said.append(model.generate(prompt, max_new_tokens=8))
print(*map(repr, said), sep="\n")
with probes.ablate(model, vector):
    print("ablated:", model.generate("The capital of Germany is", max_new_tokens=8))

# %% [markdown]
# ## The receipt
# Slope against a hundred random directions inside the top principal components; ablation; cost on ordinary text. Three
# figures have a bar, and a direction that misses one is not shown to be used.

# %%
asked = probes.fact_contrasts(topic, fact)
asked = asked[: len(asked) // 2]                 # the vector was made on the other half
receipt = probes.receipt(model, vector, asked, uses=probes.fact_uses(topic, fact))
for name in ("slope", "slope_z", "slope_p", "wrong_way", "ablation", "ablation_p", "cross_entropy"):
    print(f"{MEANINGS[name]:<62}{receipt[name].interval():<24}{bar_words(receipt, name)}")
probes.plots.dose_response(receipt, label="Germany, capital", answers="Berlin over the prompt's own")

# %% [markdown]
# ## Kept with the vector

# %%
vector = dataclasses.replace(vector, receipt=receipt)
vector.save("germany-vector", overwrite=True)
print(probes.SteeringVector.load("germany-vector").receipt["slope_z"])

# %% [markdown]
# ## The same in the weights
# A copy of the model whose weights cannot write along the direction gives the logits that ablating by hook gives.

# %%
import torch

edited = probes.orthogonalise(model, vector)
batch = model.inputs(["The capital of Germany is"])
with torch.no_grad(), probes.ablate(model, vector):
    by_hook = model.module(**batch).logits
with torch.no_grad():
    print(f"largest difference: {(edited.module(**batch).logits - by_hook).abs().max():.1e}")
