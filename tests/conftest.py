"""Every annotation of the network's modules is enforced while the tests run.

The checks cannot be compiled, so a test that compiles starts a process of its own.
"""

from jaxtyping import install_import_hook

install_import_hook(
    [f"ion_ode.attention_odenet.{m}" for m in ("ode", "constraints", "field", "odenet", "stack")]
    + ["ion_ode.training.rivals"],
    "beartype.beartype",
)
