"""The README's table of what libraries convert correctly, every cell run anew; some ten minutes.

Run by name, like the rest; ``python tests/exhaustive/test_compatibility.py``
writes the table into the README.
"""

import re
import sys
from pathlib import Path

import floatfmt as ff

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"(?<=<!-- compatibility -->\n).*?(?=<!-- end of compatibility -->)", re.DOTALL)
LIBRARIES = ("numpy", "ml_dtypes", "torch")


def test_every_cell_of_the_readmes_table_is_what_the_auditor_says():
    found = ff.compatibility(LIBRARIES)
    assert BLOCK.search(README.read_text())[0] == f"{found.markdown()}\n"


if __name__ == "__main__":
    table = ff.compatibility(
        LIBRARIES, progress=lambda done, total: sys.stderr.write(f"\r{done} of {total} ")
    ).markdown()
    README.write_text(BLOCK.sub(lambda _: f"{table}\n", README.read_text()))
