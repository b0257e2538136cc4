"""The dependencies come from settings.ini, the rest from pyproject.toml."""

from configparser import ConfigParser
from pathlib import Path

from setuptools import setup

cfg = ConfigParser(delimiters=["="])
with Path(__file__).with_name("settings.ini").open(encoding="utf-8") as f:
    cfg.read_file(f)  # unlike read(), fails if the file is missing
s = cfg["DEFAULT"]
extras = {k.removesuffix("_requirements"): s[k].split() for k in s if k.endswith("_requirements")}
extras["book"] += (
    extras["data"] + extras["cluster"] + extras["screen"] + extras["campaign"] + extras["chemistry"]
)  # what the chapters import
extras["dev"] += extras["book"] + extras["export"]

setup(install_requires=s["requirements"].split(), extras_require=extras)
