# %% [markdown]
# # Is it true, and does the model know?
# The example of the README, as a notebook (jupytext percent form). `belief fetch smollm2-135m` first.

# %%
import probes

model = probes.load_model("smollm2-135m")        # also: a folder, a hub id, a ready model, a TransformerLens bridge
topic = probes.load_topic("cities")              # 694 facts; or your own: "my.jsonl"

statements = topic.statements()                  # of each fact a true sentence and a false twin
acts = probes.capture(model, statements, "resid_post.*", tokens="last")

# The layer is chosen on one part of the cities and reported on another, beside what would score without knowledge.
found = probes.sweep(acts, estimators=["logistic", "lda"], seed=0)
found = found.with_controls(probes.controls(found, model))
probe = found.best
for name in ("auroc", "shuffled_95", "random_95", "bag_of_words", "log_probability", "over_log_probability"):
    print(f"{name:<22}{probe.controls[name]}")

# The sign flip: the same probe on "The city of Lyon is not in France."
denied = probes.capture(model, topic.statements("negated"), probe.site)
print(f"{'on negated sentences':<22}{probes.transfer(probe, denied, groups=found.split.test)}")

probe.save("cities-probe", overwrite=True)     # safetensors and JSON, nothing that runs
probe = probes.LinearProbe.load("cities-probe")
probe.match(model)                               # a model with one changed weight raises Mismatch, naming the layer
stream = probes.read(model, probe, "The city of Lyon is in France.")
print(probes.plots.token_strip(stream))          # in a notebook: coloured tokens
