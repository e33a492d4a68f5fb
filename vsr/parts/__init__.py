"""One segment of a job by itself: decoded, upscaled and encoded to the bytes of a whole run.

A part that knows the times of its frames is decoded from a key frame before it. Whether that gave
the very pictures of decoding from the beginning is told by digests: every part also looks at a few
frames before it, which its predecessor has seen as well. Where times are not known, a part is found
by counting from the beginning.

values      which frames a part has, and what became of it
frames      its frames, sought or counted
making      one part after another, with the network kept ready
"""

from vsr.parts.making import PartMaker, Upscalers
from vsr.parts.values import Done, Part, Recipe, Unfit, common_frames, recipe_of

__all__ = [
    "Done",
    "Part",
    "PartMaker",
    "Recipe",
    "Unfit",
    "Upscalers",
    "common_frames",
    "recipe_of",
]
