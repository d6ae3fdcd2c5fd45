"""The fonts of the pages: Debian's free ones, and the one that Pillow carries."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TypeAlias

from PIL import ImageFont

Font: TypeAlias = ImageFont.FreeTypeFont
PACKAGES = (
    *("fonts-dejavu-core", "fonts-dejavu-extra", "fonts-liberation", "fonts-freefont-ttf", "fonts-noto-core"),
    *("fonts-noto-mono", "fonts-lato", "fonts-roboto-unhinted", "fonts-open-sans", "fonts-firacode", "fonts-hack"),
    *("fonts-inconsolata", "fonts-linuxlibertine", "fonts-crosextra-carlito", "fonts-crosextra-caladea"),
)
PILLOWS_OWN = "Aileron-Regular"
TEXT_FONTS = (
    PILLOWS_OWN,
    *("DejaVuSans", "DejaVuSans-Bold", "DejaVuSerif", "DejaVuSerif-Bold", "DejaVuSansCondensed"),
    *("LiberationSans-Regular", "LiberationSans-Bold", "LiberationSerif-Regular", "LiberationSerif-Bold"),
    *("LiberationSerif-Italic", "LiberationSansNarrow-Regular"),
    *("FreeSans", "FreeSerif", "NotoSans-Regular", "NotoSans-Bold", "NotoSerif-Regular", "NotoSans-Italic"),
    *("Lato-Regular", "Lato-Bold", "Roboto-Regular", "Roboto-Medium", "LinLibertine_R", "Carlito-Regular"),
    *("Caladea-Regular", "DejaVuSans-Oblique"),
)
CODE_FONTS = (
    *("DejaVuSansMono", "DejaVuSansMono-Bold", "LiberationMono-Regular", "LiberationMono-Bold", "FreeMono"),
    *("FreeMonoBold", "FiraCode-Regular", "Hack-Regular", "Inconsolata", "NotoMono-Regular"),
)
HELD_OUT_FONTS = ("OpenSans-Regular", "LinBiolinum_R")
"""Never trained on: one that resembles some that were, and one that does not."""
_FOLDER = Path("/usr/share/fonts")


@lru_cache(maxsize=1)
def _files() -> dict[str, Path]:
    return {path.stem: path for path in sorted(_FOLDER.rglob("*")) if path.suffix in (".ttf", ".otf")}


def check_fonts() -> None:
    """Raises SystemExit, with what to install, where a font is not there."""
    missing = {*TEXT_FONTS, *CODE_FONTS, *HELD_OUT_FONTS} - {PILLOWS_OWN} - _files().keys()
    if missing:
        raise SystemExit(f"fonts not found: {', '.join(sorted(missing))}; apt-get install {' '.join(PACKAGES)}")


@lru_cache(maxsize=4096)
def load_font(name: str, size: int) -> Font:
    """A font at `size` pixels an em."""
    if name == PILLOWS_OWN:
        font = ImageFont.load_default(size)
        assert isinstance(font, ImageFont.FreeTypeFont)
        return font
    return ImageFont.truetype(_files()[name], size, layout_engine=ImageFont.Layout.BASIC)


@lru_cache(maxsize=500_000)
def advance(name: str, size: int, character: str) -> float:
    """How far a character moves the pen, in pixels."""
    return load_font(name, size).getlength(character)
