"""Salts by the ions of one formula unit"""

SALTS = {
    "NaCl": {"Na+": 1, "Cl-": 1},
    "KCl": {"K+": 1, "Cl-": 1},
    "LiCl": {"Li+": 1, "Cl-": 1},
    "NaNO3": {"Na+": 1, "NO3-": 1},
    "MgCl2": {"Mg+2": 1, "Cl-": 2},
    "CaCl2": {"Ca+2": 1, "Cl-": 2},
    "Na2SO4": {"Na+": 2, "SO4-2": 1},
    "K2SO4": {"K+": 2, "SO4-2": 1},
    "MgSO4": {"Mg+2": 1, "SO4-2": 1},
    "CaSO4": {"Ca+2": 1, "SO4-2": 1},
}  # Ions of one formula unit
