"""Toy: "resid_post.13" is the residual stream behind block 13."""

import pytest

from probes.errors import BadInput, NotFound
from probes.model.sites import SITE_NAMES, Site, select_sites


def test_a_site_reads_and_writes_itself():
    assert Site.parse("resid_post.13") == Site("resid_post", 13)
    assert str(Site("attn_out", 0)) == "attn_out.0"


def test_a_pattern_selects_in_forward_order_and_once():
    chosen = select_sites(["resid_post.1", "*.0", "resid_post.0"], n_layers=2)
    assert [str(site) for site in chosen] == [f"{name}.0" for name in SITE_NAMES] + ["resid_post.1"]
    assert len(select_sites("resid_post.*", 30)) == 30


@pytest.mark.parametrize("text", ["resid_post", "resid_post.-1", "resid_post.1.2", "", "13", "resid_post.x"])
def test_what_is_no_site_is_refused_with_an_example(text):
    with pytest.raises(BadInput, match=r"resid_post\.13"):
        Site.parse(text)


def test_a_site_beyond_the_last_layer_names_the_layers():
    with pytest.raises(NotFound, match="layers 0 to 1"):
        select_sites("resid_post.2", n_layers=2)
    with pytest.raises(NotFound, match="layers 0 to 1"):
        select_sites("resid_post.9*", n_layers=2)


def test_no_site_at_all_is_refused():
    with pytest.raises(BadInput, match="no site"):
        select_sites([], n_layers=2)
