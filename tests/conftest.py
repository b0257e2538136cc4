"""Every annotation of the network's modules is enforced while the tests run.

The checks cannot be compiled, so a test that compiles starts a process of its own.
"""

import pytest
from jaxtyping import install_import_hook

install_import_hook(
    [f"ion_ode.attention_odenet.{m}" for m in ("ode", "constraints", "field", "odenet", "stack")]
    + ["ion_ode.training.rivals"],
    "beartype.beartype",
)


@pytest.fixture
def memory_that_was_used_before(monkeypatch):
    "Nothing may rest on what fresh memory happens to hold: every tape begins as NaN."
    from ion_ode.attention_odenet import fused

    def tape(self, like, n):
        self.memory = like.new_full((n,), float("nan"))

    monkeypatch.setattr(fused._Tape, "__init__", tape)
    monkeypatch.setattr(fused._Tape, "spare", {})
