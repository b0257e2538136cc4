"""What laboratories write in German, French and Spanish, in English

Docs: https://ion-ode.github.io/ion_ode/guides/my_feed.html.md"""

import unicodedata
from functools import lru_cache

from ion_ode.water.units import plain

__all__ = ["in_english"]

_NAMES = {  # English: what it is called elsewhere, in lower case, signs of punctuation as spaces
    "sodium": "natrium, sodio", "potassium": "kalium, potasio", "calcium": "kalzium, calcio",
    "magnesium": "magnésium, magnesio", "ammonium": "amonio", "strontium": "estroncio", "barium": "baryum, bario",
    "lithium": "litio", "chloride": "chlorid, chlorure, chlorures, cloruro, cloruros, chlorides",
    "sulfate": "sulfat, sulphat, sulfates, sulfato, sulfatos, sulphates",
    "nitrate": "nitrat, nitrates, nitrato, nitratos, nitrate plus nitrite, nitrate+nitrite, no3+no2",
    "bicarbonate": "hydrogencarbonat, hydrogenkarbonat, bikarbonat, bicarbonat, bicarbonates, hydrogénocarbonate, "
    "hydrogénocarbonates, bicarbonato, bicarbonatos",
    "carbonate": "carbonat, karbonat, carbonates, carbonato, carbonatos",
    "fluoride": "fluorid, fluorure, fluorures, fluoruro, fluoruros, fluorides",
    "bromide": "bromid, bromure, bromures, bromuro", "phosphate": "phosphat, phosphates, fosfato, fosfatos",
    "silica": "kieselsäure, siliciumdioxid, silice, sílice", "boron": "bor, bore, boro",
    "nitrite": "no2, nitrit, nitrites, nitrito, nitritos", "iron": "eisen, eisen gesamt, fer, hierro",
    "manganese": "mangan, manganèse, manganeso", "copper": "kupfer, cuivre, cobre", "lead": "blei, plomb, plomo",
    "zinc": "zink", "arsenic": "arsen, arsénico", "aluminium": "aluminio",
    "hardness": "härte, gesamthärte, gesamthaerte, wasserhärte, summe erdalkalien, dureté, dureté totale, "
    "titre hydrotimétrique, dureza, dureza total",
    "alkalinity": "alkalinität, carbonathärte, karbonathärte, säurekapazität, säurekapazität bis ph 4,3, "
    "säurekapazität bis ph 4 3, säurekapazität ks4,3, säurekapazität ks 4,3, ks4,3, ks 4,3, ks4 3, m wert, tac, "
    "titre alcalimétrique complet, alcalinité, alcalinidad, alcalinidad total",
    "conductivity": "leitfähigkeit, elektrische leitfähigkeit, el leitfähigkeit, lf, conductivité, conductividad, "
    "specific conductance, specific conductivity",
    "tds": "abdampfrückstand, trockenrückstand, résidu sec, residuo seco",
    "temperature": "temperatur, wassertemperatur, température, temperatura", "ph": "ph wert",
    "rejection": "rückhalt, rückhaltung, rückhaltegrad, taux de rétention, rétention, rechazo, retención",
    "permeate": "permeat, perméat, permeado", "feed": "rohwasser, zulauf, alimentation, alimentación",
    "pressure": "druck, pression, presión", "flux": "fluss, permeatfluss, flujo",
    "sample": "probe, probenname, probenbezeichnung, probennummer, messstelle, entnahmestelle, bezeichnung, "
    "échantillon, muestra",
    "date": "datum, entnahmedatum, probenahmedatum, probenahme, fecha", "turbidity": "trübung, turbidité, turbidez",
    "colour": "färbung, couleur", "oxygen": "sauerstoff, oxygène, oxígeno", "note": "bemerkung, remarque, nota",
    "parameter": "analyse, analyt, messgröße, kenngröße, paramètre, parámetro",
    "value": "ergebnis, messwert, wert, befund, résultat, valeur, resultado, valor", "unit": "einheit, unité, unidad",
    "method": "verfahren, methode, norm, méthode, método", "limit value": "grenzwert",
    "reporting limit": "bestimmungsgrenze, bg, nachweisgrenze",
}  # fmt: skip
_ENGLISH = {foreign: name for name, some in _NAMES.items() for foreign in some.split(", ")}


@lru_cache(maxsize=4096)
def in_english(
    text: str,  # A header without its unit, or an analyte
) -> str:  # The same where it is not known here
    "An analyte's or a quantity's English name."
    key = unicodedata.normalize("NFC", plain(text)).lower().replace("-", " ").replace(".", " ")
    return _ENGLISH.get(" ".join(key.split()), text)
