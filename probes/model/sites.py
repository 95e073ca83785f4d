"""Site: a place in a transformer where a tensor of the residual stream's width is read or changed.

The names are TransformerLens's: in a block of layer l (0-based), `resid_pre` enters it, `attn_out` is what attention
adds, `resid_mid` = resid_pre + attn_out, `mlp_out` is what the MLP adds, `resid_post` leaves the block (before the
final norm).
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from fnmatch import fnmatchcase

from probes.errors import BadInput, NotFound, nearest

__all__ = ["SITE_NAMES", "Site", "select_sites"]

SITE_NAMES = ("resid_pre", "attn_out", "resid_mid", "mlp_out", "resid_post")
"""Within a block, in the order in which they are computed."""


@dataclass(frozen=True)
class Site:
    """One hook point of one layer; `str(site)` is `"resid_post.13"`."""

    name: str
    """One of `SITE_NAMES`."""
    layer: int
    """0-based."""

    def __post_init__(self) -> None:
        if self.name not in SITE_NAMES:
            raise NotFound(f"{self.name!r} is no hook point; {nearest(self.name, SITE_NAMES)}")
        if isinstance(self.layer, bool) or not isinstance(self.layer, int) or self.layer < 0:
            raise BadInput(f"layer {self.layer!r} is not a layer; layers are whole numbers from 0")

    def __str__(self) -> str:
        return f"{self.name}.{self.layer}"

    def __lt__(self, other: "Site") -> bool:
        return self.depth < other.depth

    @property
    def depth(self) -> tuple[int, int]:
        """Sorts sites in the order in which a forward pass computes them."""
        return self.layer, SITE_NAMES.index(self.name)

    @classmethod
    def parse(cls, text: "str | Site") -> "Site":
        """Read `"resid_post.13"`.

        Raises:
            BadInput: the text is not `name.layer`.
            NotFound: the name is not a hook point.
        """
        if isinstance(text, Site):
            return text
        found = re.fullmatch(r"([a-z_]+)\.(\d{1,5})", text)
        if not found:
            raise BadInput(f"{text!r} is not a site; a site is a hook point and a layer, such as 'resid_post.13'")
        return cls(found[1], int(found[2]))


def select_sites(pattern: "str | Site | Iterable[str | Site]", n_layers: int) -> tuple[Site, ...]:
    """Return the sites a pattern names, in forward order, each once.

    Args:
        pattern: a site, its text, a pattern such as `"resid_post.*"` or `"*.3"`, or several of these.
        n_layers: layers of the model; a site beyond them is refused.

    Raises:
        NotFound: nothing matches, or the layer does not exist.
    """
    wanted = [pattern] if isinstance(pattern, str | Site) else list(pattern)
    everything = [Site(name, layer) for layer in range(n_layers) for name in SITE_NAMES]
    chosen: set[Site] = set()
    for item in wanted:
        if isinstance(item, str) and "*" in item:
            matched = {site for site in everything if fnmatchcase(str(site), item)}
            if not matched:
                raise NotFound(
                    f"{item!r} matches no site of a model with layers 0 to {n_layers - 1}; try 'resid_post.*'"
                )
            chosen |= matched
            continue
        site = Site.parse(item)
        if site.layer >= n_layers:
            raise NotFound(f"{site} does not exist: the model has layers 0 to {n_layers - 1}")
        chosen.add(site)
    if not chosen:
        raise BadInput("no site was named; name at least one, such as 'resid_post.13'")
    return tuple(sorted(chosen))
