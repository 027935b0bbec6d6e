"""`python -m knowledge_gaps` is `kgaps`."""

from __future__ import annotations

from knowledge_gaps.cli import main

if __name__ == "__main__":
    main()
