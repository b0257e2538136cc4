"New-membrane screening: permeance and rejection of a thin-film-composite membrane from its monomers."
